package vcenter

import (
	"context"
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

func TestAMovedMachineIsOneOfItsNewHost(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	isOn := func(host string) bool {
		machines := site.properties(t, site.hostSystem(t, host), "vm")["vm"]
		references := machines.(types.ArrayOfManagedObjectReference).ManagedObjectReference
		return slices.Contains(references, vm.Reference())
	}
	if !isOn(hostA) || isOn(hostB) {
		t.Fatal("it is created on the first host")
	}
	target := site.hostSystem(t, hostB).Reference()
	site.power(t, func(ctx context.Context) (*object.Task, error) {
		return vm.Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &target}, "")
	})
	if isOn(hostA) || !isOn(hostB) {
		t.Error("it did not change its host's list")
	}
}

func TestAMachineIsInThePoolThatItMovedTo(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	root, err := site.finder.ResourcePool(t.Context(), "DC0_C0/Resources")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := root.Create(t.Context(), "tenant-a", types.DefaultResourceConfigSpec())
	if err != nil {
		t.Fatal(err)
	}
	target := pool.Reference()
	site.power(t, func(ctx context.Context) (*object.Task, error) {
		return vm.Relocate(ctx, types.VirtualMachineRelocateSpec{Pool: &target}, "")
	})
	for pool, expected := range map[*object.ResourcePool]int{root: 0, pool: 1} {
		machines := site.properties(t, pool, "vm")["vm"].(types.ArrayOfManagedObjectReference)
		if len(machines.ManagedObjectReference) != expected {
			t.Errorf("%s has %v", pool.Reference(), machines.ManagedObjectReference)
		}
	}
}
