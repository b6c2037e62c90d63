package vcenter

import (
	"fmt"
	"slices"
	"strings"
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
// Beyond the simulator's: a new name is escaped as vCenter does; values of extraConfig are kept as text, whatever type they were sent in;
// removing an absent key changes nothing; a caller without the privilege gets NoPermission; the task
// fails with ConcurrentAccess when changeVersion is not current, and with TaskInProgress when the machine
// is being reconfigured already. As on vCenter, nothing keeps two machines from having the same VNC port.
func (m *virtualMachines) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	var answer soap.HasFault
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	ctx.Map.WithLock(ctx, vm, func() {
		if len(req.Spec.ExtraConfig) > 0 {
			if fault := require(ctx, vm.Self, advancedConfigPrivilege); fault != nil {
				answer = &methods.ReconfigVM_TaskBody{Fault_: faultOf(fault)}
				return
			}
		}
		if fault := m.busy.conflict(ctx, vm, req.Spec.ChangeVersion); fault != nil {
			answer = failedReconfigure(ctx, vm, fault)
			return
		}
		req.Spec.Name = escaped(req.Spec.Name)
		req.Spec.ExtraConfig = normalized(req.Spec.ExtraConfig, vm.Config.ExtraConfig)
		answer = vm.ReconfigVMTask(ctx, req)
		m.busy.started(vm.Self, answer)
	})
	return answer
}

// escaped returns a name as vCenter keeps it (ManagedEntity.name): with %2f, %5c and %25 for a slash, a backslash and
// a percent sign that begins no such sequence. The simulator does that where it creates machines and folders only.
func escaped(name string) string {
	var kept strings.Builder
	for i := range len(name) {
		rest := strings.ToLower(name[i:])
		isSequence := strings.HasPrefix(rest, "%2f") || strings.HasPrefix(rest, "%5c") ||
			strings.HasPrefix(rest, "%25")
		switch {
		case name[i] == '/':
			kept.WriteString("%2f")
		case name[i] == '\\':
			kept.WriteString("%5c")
		case name[i] == '%' && !isSequence:
			kept.WriteString("%25")
		default:
			kept.WriteByte(name[i])
		}
	}
	return kept.String()
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
// is held by each caller that asks about it.
type busyTable struct {
	mu    sync.Mutex
	tasks map[types.ManagedObjectReference]types.ManagedObjectReference
}

// conflict returns the fault of a task that another change of the machine is in the way of.
func (b *busyTable) conflict(
	ctx *simulator.Context, vm *simulator.VirtualMachine, changeVersion string,
) types.BaseMethodFault {
	if changeVersion != "" && changeVersion != vm.Config.ChangeVersion {
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

// failedReconfigure starts a task that ends with a fault.
func failedReconfigure(
	ctx *simulator.Context, vm *simulator.VirtualMachine, fault types.BaseMethodFault,
) soap.HasFault {
	task := simulator.CreateTask(vm, "reconfigVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, fault
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task.Run(ctx)}}
}
