package vcenter

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// firstVNCPort is that of the first of a host's machines; the others follow.
const firstVNCPort = 5901

// Machine is a new machine.
type Machine struct {
	Name         string `json:"name"`
	InstanceUUID string `json:"instance_uuid"`
}

// AddMachines puts machines on a host, powered on, each with a VNC port.
//
// They enter the inventory without CreateVM_Task, in which the simulator sleeps: thousands of machines would
// take minutes.
func (v *VCenter) AddMachines(host string, count int) ([]Machine, error) {
	found := v.findHost(host)
	if found == nil {
		return nil, fmt.Errorf("no host %q in the inventory", host)
	}
	machines := make([]Machine, 0, count)
	for number := range count {
		machine, err := v.addMachine(found, fmt.Sprintf("%s-vm-%d", host, number), firstVNCPort+number)
		if err != nil {
			return nil, err
		}
		machines = append(machines, machine)
	}
	return machines, nil
}

// SetInstanceUUID gives the virtual machine of that name the instance UUID of another vCenter's machine, as a copy of
// its files has.
func (v *VCenter) SetInstanceUUID(machine, uuid string) error {
	vm, err := v.machineNamed(machine)
	if err != nil {
		return err
	}
	v.registry.AtomicUpdate(v.context(), vm, []types.PropertyChange{
		{Name: "config.instanceUuid", Val: uuid},
		{Name: "summary.config.instanceUuid", Val: uuid},
	})
	return nil
}

func (v *VCenter) machineNamed(name string) (*simulator.VirtualMachine, error) {
	for _, entity := range v.registry.All("VirtualMachine") {
		if vm, ok := entity.(*simulator.VirtualMachine); ok && vm.Name == name {
			return vm, nil
		}
	}
	return nil, fmt.Errorf("no virtual machine %q in the inventory", name)
}

func (v *VCenter) addMachine(host *simulator.HostSystem, name string, port int) (Machine, error) {
	ctx := v.context()
	datacenter := v.registry.Any("Datacenter").(*simulator.Datacenter)
	cluster := v.registry.Get(*host.Parent).(*simulator.ClusterComputeResource)
	pool := v.registry.Get(*cluster.ResourcePool).(*simulator.ResourcePool)
	spec := &types.VirtualMachineConfigSpec{
		Name:  name,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
	}
	vm, fault := simulator.NewVirtualMachine(ctx, datacenter.VmFolder, spec)
	if fault != nil {
		return Machine{}, fmt.Errorf("create %s: %T", name, fault)
	}
	vm.ResourcePool = &pool.Self
	v.registry.AppendReference(ctx, host, &host.Vm, vm.Self)
	v.registry.AppendReference(ctx, pool, &pool.Vm, vm.Self)
	on := types.VirtualMachinePowerStatePoweredOn
	v.registry.AtomicUpdate(ctx, vm, []types.PropertyChange{
		{Name: "name", Val: name},
		{Name: "config.name", Val: name},
		{Name: "summary.config.name", Val: name},
		{Name: "summary.config.instanceUuid", Val: vm.Config.InstanceUuid},
		{Name: "runtime.host", Val: &host.Self},
		{Name: "summary.runtime.host", Val: &host.Self},
		{Name: "runtime.powerState", Val: on},
		{Name: "summary.runtime.powerState", Val: on},
		{Name: "config.extraConfig", Val: []types.BaseOptionValue{
			&types.OptionValue{Key: "RemoteDisplay.vnc.enabled", Value: "TRUE"},
			&types.OptionValue{Key: "RemoteDisplay.vnc.port", Value: fmt.Sprint(port)},
		}},
	})
	return Machine{Name: name, InstanceUUID: vm.Config.InstanceUuid}, nil
}
