package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// RelocateVMTask is VirtualMachine.RelocateVM_Task.
//
// Beyond the simulator's: the machine leaves the list of its old host's machines (HostSystem.vm) and
// enters that of its new one.
func (m *virtualMachines) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	source := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	var answer soap.HasFault
	ctx.Map.WithLock(ctx, vm, func() {
		answer = vm.RelocateVMTask(ctx, req)
	})
	if ref := req.Spec.Host; ref != nil && *ref != source.Self {
		target := ctx.Map.Get(*ref).(*simulator.HostSystem)
		ctx.Map.RemoveReference(ctx, source, &source.Vm, vm.Self)
		ctx.Map.AppendReference(ctx, target, &target.Vm, vm.Self)
	}
	return answer
}
