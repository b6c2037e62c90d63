package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// authorizationManagers serves methods of the AuthorizationManager in the simulator's stead, as virtualMachines does for
// machines.
type authorizationManagers struct {
	mo.ExtensibleManagedObject
}

// Lock and Unlock opt out of the simulator's lock: require takes that of the manager.
func (*authorizationManagers) Lock()   {}
func (*authorizationManagers) Unlock() {}

// HasUserPrivilegeOnEntities is AuthorizationManager.HasUserPrivilegeOnEntities: which privileges the user has. The
// simulator's user has all.
func (*authorizationManagers) HasUserPrivilegeOnEntities(
	ctx *simulator.Context, req *types.HasUserPrivilegeOnEntities,
) soap.HasFault {
	response := &types.HasUserPrivilegeOnEntitiesResponse{}
	for _, entity := range req.Entities {
		found := types.EntityPrivilege{Entity: entity}
		for _, id := range req.PrivId {
			granted := require(ctx, entity, id) == nil
			found.PrivAvailability = append(found.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: granted})
		}
		response.Returnval = append(response.Returnval, found)
	}
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: response}
}
