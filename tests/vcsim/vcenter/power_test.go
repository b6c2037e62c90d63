package vcenter

import (
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func (s *site) powerState(t *testing.T, vm mo.Reference) types.AnyType {
	return s.properties(t, vm, "runtime.powerState")["runtime.powerState"]
}

func TestPowerNeedsItsPrivileges(t *testing.T) {
	s := newSiteWithout(t, Options{})
	vm := s.machine(t, "vm-1", hostA)
	s.restrict(t, vm, powerOnPrivilege)
	for privilege, call := range map[string]func() error{
		powerOffPrivilege: func() error { return vm.ShutdownGuest(t.Context()) },
		resetPrivilege:    func() error { return vm.RebootGuest(t.Context()) },
	} {
		fault, ok := faultOfError(t, call()).(types.NoPermission)
		if !ok || fault.PrivilegeId != privilege {
			t.Errorf("%s: %#v", privilege, fault)
		}
	}
	if _, err := vm.PowerOff(t.Context()); err == nil {
		t.Error("powered off without the privilege")
	}
	if state := s.powerState(t, vm); state != types.VirtualMachinePowerStatePoweredOn {
		t.Error(state)
	}
}

func TestAGuestShutsDownByItsTools(t *testing.T) {
	s := newSiteWithout(t, Options{})
	vm := s.machine(t, "vm-1", hostA)
	if _, ok := faultOfError(t, vm.ShutdownGuest(t.Context())).(types.ToolsUnavailable); !ok {
		t.Error("there are no tools at first")
	}
	for _, ignores := range []bool{true, false} {
		if err := s.SetGuest("vm-1", Guest{ToolsRunning: true, IgnoresShutdown: ignores}); err != nil {
			t.Fatal(err)
		}
		if err := vm.ShutdownGuest(t.Context()); err != nil {
			t.Fatal(err)
		}
		if isOn := s.powerState(t, vm) == types.VirtualMachinePowerStatePoweredOn; isOn != ignores {
			t.Errorf("ignores the request: %v, is on: %v", ignores, isOn)
		}
	}
}

func TestATaskFailsAsItIsToldTo(t *testing.T) {
	s := newSiteWithout(t, Options{})
	vm := s.machine(t, "vm-1", hostA)
	s.power(t, vm.PowerOff)
	if err := s.SetPower("vm-1", PowerSettings{Takes: 50, Fails: true}); err != nil {
		t.Fatal(err)
	}
	task, err := vm.PowerOn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// It can be read while the task runs.
	if state := s.powerState(t, vm); state != types.VirtualMachinePowerStatePoweredOff {
		t.Error(state)
	}
	if _, ok := faultOfError(t, task.Wait(t.Context())).(*types.InsufficientMemoryResourcesFault); !ok {
		t.Error("it does not fail so")
	}
}
