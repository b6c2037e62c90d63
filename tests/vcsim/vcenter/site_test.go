package vcenter

// What all tests of this package stand on: a vCenter with hosts, and a client of it.

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/hostd"
	"vncgate/tests/vcsim/internal/testcert"
)

const (
	username = "vncgate@vsphere.local"
	password = "secret"
	hostA    = "127.0.0.2"
	hostB    = "esx-b.example.com"
)

// site is a vCenter with two hosts, the stand-in of the hosts, and a client of the vCenter.
type site struct {
	*VCenter
	hosts  *hostd.Hosts
	client *govmomi.Client
	finder *find.Finder
}

func newSite(t *testing.T, options Options) *site {
	hosts := hostd.NewHosts(hostd.DefaultTicketLifetime)
	t.Cleanup(hosts.Close)
	control := httptest.NewServer(hosts.Handler())
	t.Cleanup(control.Close)
	options.Hosts = &hostd.Client{URL: control.URL}
	s := newSiteWithout(t, options)
	s.hosts = hosts
	return s
}

// newSiteWithout starts a site without the stand-in of the hosts.
func newSiteWithout(t *testing.T, options Options) *site {
	options.Listen = "127.0.0.1:0"
	pair, err := tls.LoadX509KeyPair(testcert.New(t))
	if err != nil {
		t.Fatal(err)
	}
	options.Certificate = pair
	options.Login = url.UserPassword(username, password)
	vcenter, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		vcenter.Close()
		simulator.TaskDelay = simulator.DelayConfig{}
	})
	s := &site{VCenter: vcenter}
	s.client = s.login(t)
	s.finder = find.NewFinder(s.client.Client)
	datacenter, err := s.finder.DefaultDatacenter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.finder.SetDatacenter(datacenter)
	for _, name := range []string{hostA, hostB} {
		s.addHost(t, name)
	}
	return s
}

func (s *site) login(t *testing.T) *govmomi.Client {
	address := &url.URL{Scheme: "https", Host: s.Address(), Path: "/sdk", User: url.UserPassword(username, password)}
	client, err := govmomi.NewClient(t.Context(), address, true)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (s *site) addHost(t *testing.T, name string) {
	cluster, err := s.finder.ClusterComputeResource(t.Context(), "DC0_C0")
	if err != nil {
		t.Fatal(err)
	}
	spec := types.HostConnectSpec{HostName: name, UserName: "DC0_C0_H0"}
	task, err := cluster.AddHost(t.Context(), spec, true, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) hostSystem(t *testing.T, name string) *object.HostSystem {
	host, err := s.finder.HostSystem(t.Context(), "DC0_C0/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// standIn lets the stand-in serve a host.
func (s *site) standIn(t *testing.T, name string) hostd.HostState {
	certificate, key := testcert.New(t)
	settings := hostd.HostSettings{Address: "127.0.0.2:0", Certificate: certificate, Key: key}
	state, err := s.hosts.SetHost(name, settings)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// machine creates a virtual machine on a host, powered on.
func (s *site) machine(t *testing.T, name, host string) *object.VirtualMachine {
	ctx := t.Context()
	folder, err := s.finder.DefaultFolder(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := s.finder.ResourcePool(ctx, "DC0_C0/Resources")
	if err != nil {
		t.Fatal(err)
	}
	spec := types.VirtualMachineConfigSpec{
		Name:    name,
		GuestId: string(types.VirtualMachineGuestOsIdentifierOtherGuest),
		Files:   &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
	}
	task, err := folder.CreateVM(ctx, spec, pool, s.hostSystem(t, host))
	if err != nil {
		t.Fatal(err)
	}
	created, err := task.WaitForResult(ctx)
	if err != nil {
		t.Fatal(err)
	}
	vm := object.NewVirtualMachine(s.client.Client, created.Result.(types.ManagedObjectReference))
	s.power(t, vm.PowerOn)
	return vm
}

func (s *site) power(t *testing.T, change func(context.Context) (*object.Task, error)) {
	task, err := change(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// restrict gives the user a role with the given privileges, and no others, on a machine.
func (s *site) restrict(t *testing.T, vm *object.VirtualMachine, privileges ...string) {
	manager := object.NewAuthorizationManager(s.client.Client)
	role, err := manager.AddRole(t.Context(), t.Name(), privileges)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := manager.RoleList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The simulator's AddRole answers no id.
	role = roles.ByName(t.Name()).RoleId
	permission := []types.Permission{{Principal: username, RoleId: role, Propagate: true}}
	if err := manager.SetEntityPermissions(t.Context(), vm.Reference(), permission); err != nil {
		t.Fatal(err)
	}
}

// properties asks for some properties of an object as a gateway does, in one RetrievePropertiesEx.
func (s *site) properties(t *testing.T, object mo.Reference, paths ...string) map[string]types.AnyType {
	ctx := t.Context()
	var content []types.ObjectContent
	collector := property.DefaultCollector(s.client.Client)
	if err := collector.Retrieve(ctx, []types.ManagedObjectReference{object.Reference()}, paths, &content); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]types.AnyType)
	for _, property := range content[0].PropSet {
		found[property.Name] = property.Val
	}
	return found
}

// faultOfError returns the fault that a call or a task ended with.
func faultOfError(t *testing.T, err error) types.AnyType {
	t.Helper()
	if soap.IsSoapFault(err) {
		return soap.ToSoapFault(err).VimFault()
	}
	var ended task.Error
	if !errors.As(err, &ended) {
		t.Fatalf("no fault: %v", err)
	}
	return ended.Fault()
}
