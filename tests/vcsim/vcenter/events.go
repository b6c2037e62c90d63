package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// eventManagers serves EventManager.LogUserEvent, which the simulator lacks.
type eventManagers struct {
	mo.ExtensibleManagedObject
}

func (*eventManagers) Lock()   {}
func (*eventManagers) Unlock() {}

// LogUserEvent is EventManager.LogUserEvent: a GeneralUserEvent on an entity.
func (*eventManagers) LogUserEvent(ctx *simulator.Context, req *types.LogUserEvent) soap.HasFault {
	body := &methods.LogUserEventBody{}
	if fault := require(ctx, req.Entity, "Global.LogEvent"); fault != nil {
		body.Fault_ = faultOf(fault)
		return body
	}
	event := &types.GeneralUserEvent{GeneralEvent: types.GeneralEvent{Message: req.Msg}}
	if vm, ok := ctx.Map.Get(req.Entity).(*simulator.VirtualMachine); ok {
		event.Vm = &types.VmEventArgument{
			EntityEventArgument: types.EntityEventArgument{Name: vm.Name}, Vm: vm.Self,
		}
	}
	manager := ctx.Map.EventManager()
	ctx.WithLock(manager, func() {
		manager.PostEvent(ctx, &types.PostEvent{This: manager.Self, EventToPost: event})
		// The simulator has no words for this type of event.
		event.FullFormattedMessage = "User logged event: " + req.Msg
	})
	body.Res = &types.LogUserEventResponse{}
	return body
}
