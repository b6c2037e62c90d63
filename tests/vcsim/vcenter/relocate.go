package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// RelocateVMTask is VirtualMachine.RelocateVM_Task.
//
// Beyond the simulator's: the machine leaves the lists of its old host's and old resource pool's machines
// (HostSystem.vm, ResourcePool.vm) and enters those of its new ones.
func (m *virtualMachines) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	source := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	sourcePool := ctx.Map.Get(*vm.ResourcePool).(*simulator.ResourcePool)
	var answer soap.HasFault
	ctx.Map.WithLock(ctx, vm, func() {
		answer = vm.RelocateVMTask(ctx, req)
	})
	if ref := req.Spec.Host; ref != nil && *ref != source.Self {
		target := ctx.Map.Get(*ref).(*simulator.HostSystem)
		ctx.Map.RemoveReference(ctx, source, &source.Vm, vm.Self)
		ctx.Map.AppendReference(ctx, target, &target.Vm, vm.Self)
	}
	if ref := req.Spec.Pool; ref != nil && *ref != sourcePool.Self {
		target := ctx.Map.Get(*ref).(*simulator.ResourcePool)
		ctx.Map.RemoveReference(ctx, sourcePool, &sourcePool.Vm, vm.Self)
		ctx.Map.AppendReference(ctx, target, &target.Vm, vm.Self)
	}
	return answer
}
