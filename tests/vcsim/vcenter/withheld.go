package vcenter

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// propertyCollectors serves RetrievePropertiesEx and its pages in the simulator's stead, to withhold
// properties as a vCenter does from an account that may not read them.
type propertyCollectors struct {
	mo.ExtensibleManagedObject
	vcenter *VCenter
}

func (*propertyCollectors) Lock()   {}
func (*propertyCollectors) Unlock() {}

// withheldTable holds the paths that no client may read of an object.
type withheldTable struct {
	mu    sync.Mutex
	paths map[types.ManagedObjectReference][]string
}

func (t *withheldTable) set(object types.ManagedObjectReference, paths []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths == nil {
		t.paths = make(map[types.ManagedObjectReference][]string)
	}
	t.paths[object] = paths
}

// withhold moves withheld properties to the missing ones.
func (t *withheldTable) withhold(objects []types.ObjectContent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range objects {
		object := &objects[i]
		paths := t.paths[object.Obj]
		if len(paths) == 0 {
			continue
		}
		var kept []types.DynamicProperty
		for _, property := range object.PropSet {
			isWithheld := func(path string) bool {
				return property.Name == path || strings.HasPrefix(property.Name, path+"[")
			}
			if !slices.ContainsFunc(paths, isWithheld) {
				kept = append(kept, property)
				continue
			}
			fault := &types.NoPermission{Object: &object.Obj, PrivilegeId: "System.Read"}
			object.MissingSet = append(object.MissingSet, types.MissingProperty{
				Path:  property.Name,
				Fault: types.LocalizedMethodFault{Fault: fault},
			})
		}
		object.PropSet = kept
	}
}

// Withhold keeps properties of the virtual machine of that name from every client; no paths end that.
func (v *VCenter) Withhold(machine string, paths []string) error {
	for _, entity := range v.registry.All("VirtualMachine") {
		if entity.Entity().Name == machine {
			v.withheld.set(entity.Reference(), paths)
			v.registry.AtomicUpdate(v.context(), entity, nil)
			return nil
		}
	}
	return fmt.Errorf("no virtual machine %q in the inventory", machine)
}

func (p *propertyCollectors) collector(
	ctx *simulator.Context, this types.ManagedObjectReference,
) *simulator.PropertyCollector {
	if ctx.Session != nil {
		if collector, ok := ctx.Session.Get(this).(*simulator.PropertyCollector); ok {
			return collector
		}
	}
	return ctx.Map.Get(this).(*simulator.PropertyCollector)
}

// RetrievePropertiesEx is PropertyCollector.RetrievePropertiesEx.
func (p *propertyCollectors) RetrievePropertiesEx(
	ctx *simulator.Context, req *types.RetrievePropertiesEx,
) soap.HasFault {
	answer := p.collector(ctx, req.This).RetrievePropertiesEx(ctx, req)
	if body, ok := answer.(*methods.RetrievePropertiesExBody); ok && body.Res != nil && body.Res.Returnval != nil {
		p.vcenter.withheld.withhold(body.Res.Returnval.Objects)
	}
	return answer
}

// ContinueRetrievePropertiesEx is PropertyCollector.ContinueRetrievePropertiesEx.
func (p *propertyCollectors) ContinueRetrievePropertiesEx(
	ctx *simulator.Context, req *types.ContinueRetrievePropertiesEx,
) soap.HasFault {
	answer := p.collector(ctx, req.This).ContinueRetrievePropertiesEx(ctx, req)
	if body, ok := answer.(*methods.ContinueRetrievePropertiesExBody); ok && body.Res != nil {
		p.vcenter.withheld.withhold(body.Res.Returnval.Objects)
	}
	return answer
}
