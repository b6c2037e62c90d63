package vcenter

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/internal/control"
)

const (
	// pageSize is vCenter's own limit of the updates in one answer, whatever a client asks for.
	pageSize = 100
	// gathering is how long updates may accumulate before they are answered.
	gathering = 20 * time.Millisecond
)

// watchTable holds the collectors whose filters select the inventory.
type watchTable struct {
	mu         sync.Mutex
	collectors map[*collector]struct{}
}

func (t *watchTable) add(c *collector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.collectors == nil {
		t.collectors = make(map[*collector]struct{})
	}
	t.collectors[c] = struct{}{}
}

func (t *watchTable) remove(c *collector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.collectors, c)
}

// collector is a PropertyCollector of a client's own (PropertyCollector.CreatePropertyCollector).
//
// The simulator's collects the whole inventory anew for each change, which takes hours for ten thousand changes, and
// misses changes of keyed properties. It also takes any version for a good one. So this one serves filters that select the
// inventory by a container view; it leaves others to the simulator.
type collector struct {
	*simulator.PropertyCollector
	vcenter *VCenter

	mu sync.Mutex
	// filters are those served here.
	filters []*inventoryFilter
	// version is the one that the next call has to go on from, unless it begins anew.
	version uint64
	// pending are updates that did not fit into the last answer.
	pending []types.PropertyFilterUpdate
	// dirty are the objects that may have changed, in order.
	dirty   []types.ManagedObjectReference
	isDirty map[types.ManagedObjectReference]struct{}
	changed chan struct{}
}

// inventoryFilter is a filter of every object of some types, with what the client knows of them.
type inventoryFilter struct {
	mo.PropertyFilter
	collector *collector
	known     map[types.ManagedObjectReference]types.ObjectContent
}

func (*inventoryFilter) Lock()   {}
func (*inventoryFilter) Unlock() {}

// DestroyPropertyFilter is PropertyFilter.DestroyPropertyFilter.
func (f *inventoryFilter) DestroyPropertyFilter(
	ctx *simulator.Context, req *types.DestroyPropertyFilter,
) soap.HasFault {
	f.collector.mu.Lock()
	defer f.collector.mu.Unlock()
	f.collector.filters = slices.DeleteFunc(f.collector.filters, func(other *inventoryFilter) bool {
		return other == f
	})
	ctx.Session.Remove(ctx, req.This)
	return &methods.DestroyPropertyFilterBody{Res: &types.DestroyPropertyFilterResponse{}}
}

// inventoryView is a container view that is never listed: the filters of a collector know what is in it.
type inventoryView struct {
	mo.ContainerView
}

// DestroyView is ContainerView.DestroyView.
func (v *inventoryView) DestroyView(ctx *simulator.Context, req *types.DestroyView) soap.HasFault {
	ctx.Session.Remove(ctx, req.This)
	return &methods.DestroyViewBody{Res: &types.DestroyViewResponse{}}
}

// CreateContainerView is ViewManager.CreateContainerView. A view of several types below the root folder is one for
// filters, and costs nothing when objects are created; the simulator searches the whole inventory then.
func (p *propertyCollectors) CreateContainerView(
	ctx *simulator.Context, req *types.CreateContainerView,
) soap.HasFault {
	root := ctx.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.RootFolder
	if len(req.Type) < 2 || req.Container != root || !req.Recursive {
		return ctx.Map.Get(req.This).(*simulator.ViewManager).CreateContainerView(ctx, req)
	}
	view := &inventoryView{}
	view.Self.Type = "ContainerView"
	view.Self.Value = fmt.Sprintf("session[%s]%s", ctx.Session.Key, uuid.New())
	view.Container, view.Type, view.Recursive = req.Container, req.Type, req.Recursive
	ctx.Session.Put(view)
	return &methods.CreateContainerViewBody{
		Res: &types.CreateContainerViewResponse{Returnval: view.Self},
	}
}

// CreatePropertyCollector is PropertyCollector.CreatePropertyCollector.
func (p *propertyCollectors) CreatePropertyCollector(
	ctx *simulator.Context, _ *types.CreatePropertyCollector,
) soap.HasFault {
	created := &collector{
		PropertyCollector: &simulator.PropertyCollector{},
		vcenter:           p.vcenter,
		isDirty:           make(map[types.ManagedObjectReference]struct{}),
		changed:           make(chan struct{}, 1),
	}
	created.Self.Type = "PropertyCollector"
	created.Self.Value = fmt.Sprintf("session[%s]%s", ctx.Session.Key, uuid.New())
	return &methods.CreatePropertyCollectorBody{
		Res: &types.CreatePropertyCollectorResponse{Returnval: ctx.Session.Put(created).Reference()},
	}
}

// CreateFilter is PropertyCollector.CreateFilter.
func (c *collector) CreateFilter(ctx *simulator.Context, req *types.CreateFilter) soap.HasFault {
	isInventory := slices.ContainsFunc(req.Spec.ObjectSet, func(spec types.ObjectSpec) bool {
		_, ok := ctx.Session.Get(spec.Obj).(*inventoryView)
		return ok
	})
	if !isInventory {
		return c.PropertyCollector.CreateFilter(ctx, req)
	}
	filter := &inventoryFilter{collector: c, known: make(map[types.ManagedObjectReference]types.ObjectContent)}
	filter.Self.Type = "PropertyFilter"
	filter.Self.Value = fmt.Sprintf("session[%s]%s", ctx.Session.Key, uuid.New())
	filter.Spec = req.Spec
	ctx.Session.Put(filter)
	c.mu.Lock()
	c.filters = append(c.filters, filter)
	c.mu.Unlock()
	ctx.Map.AddHandler(&changeListener{collector: c, self: types.ManagedObjectReference{
		Type: "ChangeListener", Value: c.Self.Value,
	}})
	c.vcenter.watches.add(c)
	return &methods.CreateFilterBody{Res: &types.CreateFilterResponse{Returnval: filter.Self}}
}

// DestroyPropertyCollector is PropertyCollector.DestroyPropertyCollector.
func (c *collector) DestroyPropertyCollector(
	ctx *simulator.Context, req *types.DestroyPropertyCollector,
) soap.HasFault {
	if len(c.filters) > 0 {
		c.vcenter.watches.remove(c)
		ctx.Map.RemoveHandler(&changeListener{self: types.ManagedObjectReference{
			Type: "ChangeListener", Value: c.Self.Value,
		}})
		for _, filter := range c.filters {
			ctx.Session.Remove(ctx, filter.Self)
		}
		c.filters = nil
		c.forget()
	}
	return c.PropertyCollector.DestroyPropertyCollector(ctx, req)
}

// changeListener is told of every change of the inventory.
type changeListener struct {
	collector *collector
	self      types.ManagedObjectReference
}

func (l *changeListener) Reference() types.ManagedObjectReference { return l.self }

func (l *changeListener) PutObject(_ *simulator.Context, object mo.Reference) {
	l.collector.touch(object.Reference())
}

func (l *changeListener) UpdateObject(_ *simulator.Context, object mo.Reference, _ []types.PropertyChange) {
	l.collector.touch(object.Reference())
}

func (l *changeListener) RemoveObject(_ *simulator.Context, object types.ManagedObjectReference) {
	l.collector.touch(object)
}

func (c *collector) touch(object types.ManagedObjectReference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.isDirty[object]; ok {
		return
	}
	c.isDirty[object] = struct{}{}
	c.dirty = append(c.dirty, object)
	c.wake()
}

func (c *collector) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// forget makes every version but the initial one invalid, also that of a call that collects its page just now.
func (c *collector) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.pending = nil
	c.wake()
}

// WaitForUpdatesEx is PropertyCollector.WaitForUpdatesEx.
func (c *collector) WaitForUpdatesEx(ctx *simulator.Context, req *types.WaitForUpdatesEx) soap.HasFault {
	c.mu.Lock()
	isInventory := len(c.filters) > 0
	c.mu.Unlock()
	if !isInventory {
		return c.PropertyCollector.WaitForUpdatesEx(ctx, req)
	}
	wait, cancel := context.WithCancel(context.Background())
	most := pageSize
	if options := req.Options; options != nil {
		if options.MaxWaitSeconds != nil {
			cancel()
			limit := time.Duration(*options.MaxWaitSeconds) * time.Second
			wait, cancel = context.WithTimeout(context.Background(), limit)
		}
		if options.MaxObjectUpdates > 0 && options.MaxObjectUpdates < pageSize {
			most = int(options.MaxObjectUpdates)
		}
	}
	defer cancel()
	if req.Version == "" {
		c.begin(ctx)
	}
	for {
		set, fault := c.next(ctx, req.Version, most)
		if fault != nil {
			return &methods.WaitForUpdatesExBody{Fault_: faultOf(fault)}
		}
		if set != nil {
			return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{Returnval: set}}
		}
		select {
		case <-wait.Done():
			return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{}}
		case <-c.changed:
			time.Sleep(gathering)
		}
	}
}

// begin makes every object one that the client does not know.
func (c *collector) begin(ctx *simulator.Context) {
	var all []types.ManagedObjectReference
	for _, entity := range ctx.Map.All("") {
		all = append(all, entity.Reference())
	}
	slices.SortFunc(all, func(a, b types.ManagedObjectReference) int {
		return slices.Compare([]string{a.Type, a.Value}, []string{b.Type, b.Value})
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = nil
	for _, filter := range c.filters {
		clear(filter.known)
	}
	// Objects that were made meanwhile are not in the list.
	later := c.dirty
	c.dirty = all
	clear(c.isDirty)
	for _, object := range all {
		c.isDirty[object] = struct{}{}
	}
	for _, object := range later {
		if _, ok := c.isDirty[object]; !ok {
			c.isDirty[object] = struct{}{}
			c.dirty = append(c.dirty, object)
		}
	}
}

// next returns the next page of updates, or nothing if there are none.
func (c *collector) next(
	ctx *simulator.Context, version string, most int,
) (*types.UpdateSet, types.BaseMethodFault) {
	c.mu.Lock()
	if !c.isCurrent(version) {
		c.mu.Unlock()
		return nil, &types.InvalidCollectorVersion{}
	}
	dirty := c.dirty
	if len(c.pending) > 0 {
		dirty = nil
	} else {
		c.dirty = nil
		clear(c.isDirty)
	}
	filters := slices.Clone(c.filters)
	c.mu.Unlock()

	// Without the lock: listeners are called with the objects' locks held.
	var updates []types.PropertyFilterUpdate
	if len(dirty) > 0 {
		for _, filter := range filters {
			if objects := filter.update(ctx, dirty); len(objects) > 0 {
				updates = append(updates, types.PropertyFilterUpdate{Filter: filter.Self, ObjectSet: objects})
			}
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isCurrent(version) {
		return nil, &types.InvalidCollectorVersion{}
	}
	c.pending = append(c.pending, updates...)
	if len(c.pending) == 0 {
		return nil, nil
	}
	c.version++
	set := &types.UpdateSet{Version: strconv.FormatUint(c.version, 10)}
	for most > 0 && len(c.pending) > 0 {
		page := c.pending[0]
		if count := len(page.ObjectSet); count <= most {
			most -= count
			c.pending = c.pending[1:]
		} else {
			c.pending[0].ObjectSet = page.ObjectSet[most:]
			page.ObjectSet = page.ObjectSet[:most]
			most = 0
		}
		set.FilterSet = append(set.FilterSet, page)
	}
	if len(c.pending) > 0 {
		set.Truncated = types.NewBool(true)
	}
	return set, nil
}

// isCurrent tells whether a client may go on from this version. The caller holds the lock.
func (c *collector) isCurrent(version string) bool {
	return version == "" || version == strconv.FormatUint(c.version, 10)
}

// update returns what the client does not know yet of these objects.
func (f *inventoryFilter) update(
	ctx *simulator.Context, dirty []types.ManagedObjectReference,
) []types.ObjectUpdate {
	now := f.read(ctx, dirty)
	var updates []types.ObjectUpdate
	for _, object := range dirty {
		before, isKnown := f.known[object]
		content, isThere := now[object]
		update := types.ObjectUpdate{Obj: object}
		switch {
		case !isThere && !isKnown:
			continue
		case !isThere:
			update.Kind = types.ObjectUpdateKindLeave
			delete(f.known, object)
		case !isKnown:
			update.Kind = types.ObjectUpdateKindEnter
			update.ChangeSet, update.MissingSet = changes(types.ObjectContent{}, content), content.MissingSet
			f.known[object] = content
		default:
			update.Kind = types.ObjectUpdateKindModify
			update.ChangeSet = changes(before, content)
			if !reflect.DeepEqual(before.MissingSet, content.MissingSet) {
				update.MissingSet = content.MissingSet
			}
			f.known[object] = content
			if len(update.ChangeSet) == 0 && len(update.MissingSet) == 0 {
				continue
			}
		}
		updates = append(updates, update)
	}
	return updates
}

// read returns the objects that exist and that the filter selects, with their properties.
func (f *inventoryFilter) read(
	ctx *simulator.Context, objects []types.ManagedObjectReference,
) map[types.ManagedObjectReference]types.ObjectContent {
	root := ctx.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.RootFolder
	spec := types.PropertyFilterSpec{
		PropSet:                       f.Spec.PropSet,
		ReportMissingObjectsInResults: types.NewBool(true),
	}
	for _, object := range objects {
		if object != root && f.selects(ctx, object) {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: object})
		}
	}
	found := make(map[types.ManagedObjectReference]types.ObjectContent)
	if len(spec.ObjectSet) == 0 {
		return found
	}
	answer := f.collector.PropertyCollector.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{
		This: f.collector.Self, SpecSet: []types.PropertyFilterSpec{spec},
	})
	body, ok := answer.(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return found
	}
	f.collector.vcenter.withheld.withhold(body.Res.Returnval.Objects)
	for _, content := range body.Res.Returnval.Objects {
		found[content.Obj] = content
	}
	return found
}

// selects tells whether one of the filter's types is that of the object, or one that it is derived from.
func (f *inventoryFilter) selects(ctx *simulator.Context, object types.ManagedObjectReference) bool {
	found := ctx.Map.Get(object)
	if found == nil {
		return false
	}
	kind := reflect.TypeOf(found).Elem()
	// The simulator's types have vSphere's as their first field.
	for path.Base(kind.PkgPath()) != "mo" {
		if kind.Kind() != reflect.Struct || kind.NumField() == 0 {
			return false
		}
		kind = kind.Field(0).Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
	}
	return slices.ContainsFunc(f.Spec.PropSet, func(spec types.PropertySpec) bool {
		base, ok := kind.FieldByName(spec.Type)
		return spec.Type == object.Type || spec.Type == kind.Name() || (ok && base.Anonymous)
	})
}

// changes returns what makes one content the other.
func changes(before, now types.ObjectContent) []types.PropertyChange {
	value := func(content types.ObjectContent, name string) (types.AnyType, bool) {
		for _, property := range content.PropSet {
			if property.Name == name {
				return property.Val, true
			}
		}
		return nil, false
	}
	var found []types.PropertyChange
	for _, property := range now.PropSet {
		if old, ok := value(before, property.Name); !ok || !reflect.DeepEqual(old, property.Val) {
			found = append(found, types.PropertyChange{
				Name: property.Name, Op: types.PropertyChangeOpAssign, Val: property.Val,
			})
		}
	}
	for _, property := range before.PropSet {
		if _, ok := value(now, property.Name); !ok {
			found = append(found, types.PropertyChange{
				Name: property.Name, Op: types.PropertyChangeOpRemove,
			})
		}
	}
	return found
}

// handleWatches adds to the control API:
//
//   - POST /watches/forget → 204: each collector's version is invalid from now on;
//   - POST /changes with {"machines": N} → 204: N machines change at once.
func (v *VCenter) handleWatches(mux *http.ServeMux) {
	mux.HandleFunc("POST /watches/forget", func(w http.ResponseWriter, _ *http.Request) {
		v.watches.mu.Lock()
		defer v.watches.mu.Unlock()
		for watch := range v.watches.collectors {
			watch.forget()
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /changes", func(w http.ResponseWriter, r *http.Request) {
		var wanted struct {
			Machines int `json:"machines"`
		}
		if !control.Read(w, r, &wanted) {
			return
		}
		for _, entity := range v.registry.All("VirtualMachine")[:wanted.Machines] {
			vm := entity.(*simulator.VirtualMachine)
			v.registry.AtomicUpdate(v.context(), vm, []types.PropertyChange{
				{Name: "summary.config.memorySizeMB", Val: vm.Summary.Config.MemorySizeMB + 1},
			})
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
