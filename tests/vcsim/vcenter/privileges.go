package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// require returns NoPermission when the caller's role on the entity lacks the privilege.
//
// The simulator keeps permissions and roles (govc permissions.set, role.create) but enforces none. Here
// the permission nearest to the entity, on it or above it, decides; a user without any is an
// administrator, so that a test has to set up only what it takes away.
func require(
	ctx *simulator.Context, entity types.ManagedObjectReference, privilege string,
) types.BaseMethodFault {
	content := ctx.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content
	manager := ctx.Map.Get(*content.AuthorizationManager).(*simulator.AuthorizationManager)

	allowed := true
	ctx.Map.WithLock(ctx, manager, func() {
		// Answers the permissions of the entity first, then those of its parents in their order.
		answer := manager.RetrieveEntityPermissions(ctx, &types.RetrieveEntityPermissions{
			This: manager.Self, Entity: entity, Inherited: true,
		}).(*methods.RetrieveEntityPermissionsBody)
		for _, permission := range answer.Res.Returnval {
			if permission.Principal == ctx.Session.UserName {
				allowed = grants(manager.RoleList, permission.RoleId, privilege)
				return
			}
		}
	})
	if allowed {
		return nil
	}
	return &types.NoPermission{
		Object:      &entity,
		PrivilegeId: privilege,
		MissingPrivileges: []types.NoPermissionEntityPrivileges{
			{Entity: entity, PrivilegeIds: []string{privilege}},
		},
	}
}

func grants(roles []types.AuthorizationRole, id int32, privilege string) bool {
	return slices.ContainsFunc(roles, func(role types.AuthorizationRole) bool {
		return role.RoleId == id && slices.Contains(role.Privilege, privilege)
	})
}
