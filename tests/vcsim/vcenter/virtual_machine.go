package vcenter

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// virtualMachines serves methods of all virtual machines in the simulator's stead. Calls reach it
// because it is an object of the registry too, under a reference that no client knows.
type virtualMachines struct {
	// First, where the simulator looks for the properties of each of its objects.
	mo.ExtensibleManagedObject
	vcenter *VCenter
	busy    busyTable
}

// Lock and Unlock opt out of the simulator's lock for each object: the lock that counts is that of the
// virtual machine.
func (*virtualMachines) Lock()   {}
func (*virtualMachines) Unlock() {}

// overridden are methods of virtual machines that are redirected, besides AcquireTicket.
var overridden = [...]string{
	"PowerOffVM_Task", "PowerOnVM_Task", "RebootGuest", "ReconfigVM_Task", "RelocateVM_Task", "ResetVM_Task",
	"ShutdownGuest",
}

// overrideMethods redirects methods of virtual machines, the reading and watching of properties, and questions about
// privileges.
func (v *VCenter) overrideMethods() {
	methods := &virtualMachines{vcenter: v}
	methods.Self = types.ManagedObjectReference{Type: "VirtualMachineMethods", Value: "vncgate"}
	v.registry.Put(methods)
	collectors := &propertyCollectors{vcenter: v}
	collectors.Self = types.ManagedObjectReference{Type: "PropertyCollectorMethods", Value: "vncgate"}
	v.registry.Put(collectors)
	authorization := &authorizationManagers{}
	authorization.Self = types.ManagedObjectReference{Type: "AuthorizationManagerMethods", Value: "vncgate"}
	v.registry.Put(authorization)
	events := &eventManagers{}
	events.Self = types.ManagedObjectReference{Type: "EventManagerMethods", Value: "vncgate"}
	v.registry.Put(events)
	v.registry.Handler = func(
		ctx *simulator.Context, method *simulator.Method,
	) (mo.Reference, types.BaseMethodFault) {
		_, isVM := ctx.Map.Get(method.This).(*simulator.VirtualMachine)
		switch {
		case method.This.Type == "PropertyCollector" &&
			(method.Name == "RetrievePropertiesEx" || method.Name == "ContinueRetrievePropertiesEx" ||
				method.Name == "CreatePropertyCollector"),
			method.Name == "CreateContainerView":
			method.This = collectors.Self
		case method.Name == "HasUserPrivilegeOnEntities":
			method.This = authorization.Self
		case method.Name == "LogUserEvent":
			method.This = events.Self
		case !isVM:
		case method.Name == "AcquireTicket" && v.options.Hosts != nil,
			slices.Contains(overridden[:], method.Name):
			// The call's own reference stays in its body.
			method.This = methods.Self
		}
		return nil, nil
	}
}

// faultOf wraps a fault with the text by which logs know it.
func faultOf(fault types.BaseMethodFault) *soap.Fault {
	return simulator.Fault(fmt.Sprintf("%T", fault), fault)
}
