package vcenter

import (
	"fmt"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// advancedConfigPrivilege is what vSphere requires to change config.extraConfig.
const advancedConfigPrivilege = "VirtualMachine.Config.AdvancedConfig"

// ReconfigVMTask is VirtualMachine.ReconfigVM_Task.
//
// Beyond the simulator's: values of extraConfig are kept as text, whatever type they were sent in;
// removing an absent key changes nothing; a changeVersion that is not current fails with
// ConcurrentAccess; a machine that is being reconfigured already fails with TaskInProgress. As on
// vCenter, nothing keeps two machines from having the same VNC port.
func (m *virtualMachines) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	var answer soap.HasFault
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	ctx.Map.WithLock(ctx, vm, func() {
		if fault := m.busy.refuse(ctx, vm, &req.Spec); fault != nil {
			answer = &methods.ReconfigVM_TaskBody{Fault_: faultOf(fault)}
			return
		}
		req.Spec.ExtraConfig = normalized(req.Spec.ExtraConfig, vm.Config.ExtraConfig)
		answer = vm.ReconfigVMTask(ctx, req)
		m.busy.started(vm.Self, answer)
	})
	return answer
}

// normalized returns the changes as vCenter understands them.
func normalized(changes, present []types.BaseOptionValue) []types.BaseOptionValue {
	var kept []types.BaseOptionValue
	for _, change := range changes {
		option := *change.GetOptionValue()
		option.Value = fmt.Sprint(option.Value)
		isPresent := slices.ContainsFunc(present, func(other types.BaseOptionValue) bool {
			return other.GetOptionValue().Key == option.Key
		})
		if option.Value != "" || isPresent {
			kept = append(kept, &option)
		}
	}
	return kept
}

// busyTable knows the task that each virtual machine was last reconfigured by. The lock of the machine
// is held by whoever asks about it.
type busyTable struct {
	mu    sync.Mutex
	tasks map[types.ManagedObjectReference]types.ManagedObjectReference
}

// refuse returns the fault of a call that starts no task.
func (b *busyTable) refuse(
	ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec,
) types.BaseMethodFault {
	if len(spec.ExtraConfig) > 0 {
		if fault := require(ctx, vm.Self, advancedConfigPrivilege); fault != nil {
			return fault
		}
	}
	if spec.ChangeVersion != "" && spec.ChangeVersion != vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	if task := b.running(ctx, vm.Self); task != nil {
		return &types.TaskInProgress{Task: task.Self}
	}
	return nil
}

func (b *busyTable) started(vm types.ManagedObjectReference, answer soap.HasFault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tasks == nil {
		b.tasks = make(map[types.ManagedObjectReference]types.ManagedObjectReference)
	}
	b.tasks[vm] = answer.(*methods.ReconfigVM_TaskBody).Res.Returnval
}

// running returns the task that reconfigures the machine now.
func (b *busyTable) running(ctx *simulator.Context, vm types.ManagedObjectReference) *simulator.Task {
	b.mu.Lock()
	last := b.tasks[vm]
	b.mu.Unlock()
	task, ok := ctx.Map.Get(last).(*simulator.Task)
	if !ok {
		return nil
	}
	ended := false
	ctx.Map.WithLock(ctx, task, func() {
		ended = task.Info.State == types.TaskInfoStateSuccess || task.Info.State == types.TaskInfoStateError
	})
	if ended {
		return nil
	}
	return task
}
