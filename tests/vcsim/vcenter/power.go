package vcenter

import (
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/internal/control"
)

// What vSphere requires to change a machine's power. ShutdownGuest and RebootGuest require the second and the third.
const (
	powerOnPrivilege  = "VirtualMachine.Interact.PowerOn"
	powerOffPrivilege = "VirtualMachine.Interact.PowerOff"
	resetPrivilege    = "VirtualMachine.Interact.Reset"
)

// Guest is what runs in a machine, as far as its power is concerned.
type Guest struct {
	// ToolsRunning is whether VMware Tools run in it.
	ToolsRunning bool `json:"tools_running"`
	// IgnoresShutdown is whether it stays on when it is asked to shut down.
	IgnoresShutdown bool `json:"ignores_shutdown"`
}

// PowerSettings change what the next power tasks of a machine do.
type PowerSettings struct {
	// Takes is how long each task takes, in milliseconds.
	Takes int `json:"takes_ms"`
	// Fails is whether the tasks fail, as they do when the host has no memory left.
	Fails bool `json:"fails"`
}

// powerTable has the settings of the machines that have any.
type powerTable struct {
	mu       sync.Mutex
	settings map[types.ManagedObjectReference]PowerSettings
	stubborn map[types.ManagedObjectReference]bool
}

func (p *powerTable) get(vm types.ManagedObjectReference) (PowerSettings, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings[vm], p.stubborn[vm]
}

// SetGuest says what runs in the machine of that name.
func (v *VCenter) SetGuest(machine string, guest Guest) error {
	vm, err := v.machineNamed(machine)
	if err != nil {
		return err
	}
	status := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	if guest.ToolsRunning {
		status = types.VirtualMachineToolsRunningStatusGuestToolsRunning
	}
	v.registry.AtomicUpdate(v.context(), vm, []types.PropertyChange{
		{Name: "guest.toolsRunningStatus", Val: string(status)},
	})
	v.power.mu.Lock()
	defer v.power.mu.Unlock()
	v.power.stubborn[vm.Self] = guest.IgnoresShutdown
	return nil
}

// SetPower changes what the next power tasks of the machine of that name do.
func (v *VCenter) SetPower(machine string, settings PowerSettings) error {
	vm, err := v.machineNamed(machine)
	if err != nil {
		return err
	}
	v.power.mu.Lock()
	defer v.power.mu.Unlock()
	v.power.settings[vm.Self] = settings
	return nil
}

func (v *VCenter) handlePower(mux *http.ServeMux) {
	mux.HandleFunc("PUT /machines/{machine}/guest", func(w http.ResponseWriter, r *http.Request) {
		var guest Guest
		if control.Read(w, r, &guest) {
			answer(w, v.SetGuest(r.PathValue("machine"), guest))
		}
	})
	mux.HandleFunc("PUT /machines/{machine}/power", func(w http.ResponseWriter, r *http.Request) {
		var settings PowerSettings
		if control.Read(w, r, &settings) {
			answer(w, v.SetPower(r.PathValue("machine"), settings))
		}
	})
}

// answer is 404 if the machine was not found, and else 204.
func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// PowerOnVMTask is VirtualMachine.PowerOnVM_Task.
//
// Beyond the simulator's, here and in the four methods below: a caller without the privilege gets NoPermission, and the
// task takes as long and ends as the machine's settings say.
func (m *virtualMachines) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	task, fault := m.powerTask(ctx, req.This, "powerOn", powerOnPrivilege, types.VirtualMachinePowerStatePoweredOn)
	if fault != nil {
		return &methods.PowerOnVM_TaskBody{Fault_: fault}
	}
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
}

// PowerOffVMTask is VirtualMachine.PowerOffVM_Task.
func (m *virtualMachines) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	task, fault := m.powerTask(ctx, req.This, "powerOff", powerOffPrivilege, types.VirtualMachinePowerStatePoweredOff)
	if fault != nil {
		return &methods.PowerOffVM_TaskBody{Fault_: fault}
	}
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: task}}
}

// ResetVMTask is VirtualMachine.ResetVM_Task.
func (m *virtualMachines) ResetVMTask(ctx *simulator.Context, req *types.ResetVM_Task) soap.HasFault {
	task, fault := m.powerTask(ctx, req.This, "reset", resetPrivilege, "")
	if fault != nil {
		return &methods.ResetVM_TaskBody{Fault_: fault}
	}
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: task}}
}

// powerTask starts a task that brings a machine into a state; a machine that is reset stays on.
func (m *virtualMachines) powerTask(
	ctx *simulator.Context, self types.ManagedObjectReference, name, privilege string,
	wanted types.VirtualMachinePowerState,
) (types.ManagedObjectReference, *soap.Fault) {
	vm := ctx.Map.Get(self).(*simulator.VirtualMachine)
	if fault := require(ctx, self, privilege); fault != nil {
		return types.ManagedObjectReference{}, faultOf(fault)
	}
	settings, _ := m.vcenter.power.get(self)
	// The task holds the lock of its entity as long as it runs, so it is one of a machine of its own that no client reads.
	entity := types.ManagedObjectReference{Type: "VirtualMachine", Value: uuid.NewString()}
	task := simulator.CreateTask(entity, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		time.Sleep(time.Duration(settings.Takes) * time.Millisecond)
		var fault types.BaseMethodFault
		ctx.Map.WithLock(ctx, vm, func() { fault = changePower(ctx, vm, wanted, settings.Fails) })
		return nil, fault
	})
	return task.Run(ctx), nil
}

func changePower(
	ctx *simulator.Context, vm *simulator.VirtualMachine, wanted types.VirtualMachinePowerState, fails bool,
) types.BaseMethodFault {
	is := vm.Runtime.PowerState
	on := types.VirtualMachinePowerStatePoweredOn
	switch {
	case fails:
		return &types.InsufficientMemoryResourcesFault{}
	case wanted == "" && is != on:
		return &types.InvalidPowerState{RequestedState: on, ExistingState: is}
	case wanted == "":
		return nil
	case wanted == is:
		return &types.InvalidPowerState{RequestedState: wanted, ExistingState: is}
	}
	ctx.Map.AtomicUpdate(ctx, vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: wanted},
		{Name: "summary.runtime.powerState", Val: wanted},
	})
	return nil
}

// ShutdownGuest is VirtualMachine.ShutdownGuest. The guest has shut down when the simulator answers, unless it ignores
// the request.
func (m *virtualMachines) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	body := &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
	_, ignores := m.vcenter.power.get(req.This)
	ctx.Map.WithLock(ctx, vm, func() {
		fault := guestFault(ctx, vm, powerOffPrivilege)
		if fault == nil && !ignores {
			fault = changePower(ctx, vm, types.VirtualMachinePowerStatePoweredOff, false)
		}
		if fault != nil {
			body = &methods.ShutdownGuestBody{Fault_: faultOf(fault)}
		}
	})
	return body
}

// RebootGuest is VirtualMachine.RebootGuest.
func (m *virtualMachines) RebootGuest(ctx *simulator.Context, req *types.RebootGuest) soap.HasFault {
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	body := &methods.RebootGuestBody{Res: &types.RebootGuestResponse{}}
	ctx.Map.WithLock(ctx, vm, func() {
		if fault := guestFault(ctx, vm, resetPrivilege); fault != nil {
			body = &methods.RebootGuestBody{Fault_: faultOf(fault)}
		}
	})
	return body
}

// guestFault returns why the guest of a machine cannot be asked for something.
func guestFault(
	ctx *simulator.Context, vm *simulator.VirtualMachine, privilege string,
) types.BaseMethodFault {
	on := types.VirtualMachinePowerStatePoweredOn
	if fault := require(ctx, vm.Self, privilege); fault != nil {
		return fault
	}
	if vm.Runtime.PowerState != on {
		return &types.InvalidPowerState{RequestedState: on, ExistingState: vm.Runtime.PowerState}
	}
	if vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return &types.ToolsUnavailable{}
	}
	return nil
}
