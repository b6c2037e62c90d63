// Package vcenter is govmomi's vCenter simulator with what console gateways need and it lacks.
//
//   - VirtualMachine.AcquireTicket for WebMKS consoles, on hosts that package hostd stands in for
//     (tickets.go);
//   - hosts of different versions and certificates (hosts.go), and thousands of machines (machines.go);
//   - EventManager.LogUserEvent (events.go);
//   - roles that are enforced, where consoles are concerned (privileges.go), and answers about them (authorization.go);
//   - power tasks that take a while or fail, guests with VMware Tools and without (power.go);
//   - pictures of screens (screen.go);
//   - properties that are withheld (withheld.go);
//   - collectors that watch thousands of machines and know which versions are theirs (watches.go);
//   - a password and a certificate that change while it runs (rotation.go);
//   - an about.instanceUuid of its own (vcenter.go);
//   - ReconfigVM_Task and RelocateVM_Task corrected where they differ from vCenter's (reconfigure.go,
//     relocate.go).
//
// Methods are overridden without touching the simulator: its registry shows each call to a handler first,
// and the handler here sends a few of them to an object of this package (virtual_machine.go).
package vcenter

import (
	"crypto/tls"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/hostd"
)

const (
	productVersion = "8.0.3"
	apiVersion     = "8.0.3.0"

	// hostVersion is that of new hosts: the last one with a VNC server.
	hostVersion = "6.7.0"
	// templateHost is the cluster's only host at first.
	templateHost = "DC0_C0_H0"
)

// Options are decided at start.
type Options struct {
	// Listen is the address of the SDK listener.
	Listen string
	// Certificate of that listener.
	Certificate tls.Certificate
	// Login is the one user that may log in.
	Login *url.Userinfo
	// Hosts makes console tickets; without it the virtual machines have no AcquireTicket.
	Hosts *hostd.Client
	// ReconfigureTime is how long each ReconfigVM_Task takes. Meanwhile properties read as before and a
	// second such task of the same machine fails, as on a vCenter that is busy.
	ReconfigureTime time.Duration
}

// VCenter is a running simulator: one datacenter with one cluster and one datastore, no virtual machines.
// The cluster's only host is the template that `govc cluster.add -username DC0_C0_H0` clones, so that a
// host added later has the datastore mounted.
type VCenter struct {
	options  Options
	model    *simulator.Model
	server   *simulator.Server
	registry *simulator.Registry
	hosts    hostTable
	withheld withheldTable
	power    powerTable
	watches  watchTable
	screens  screenTable
	// The user's password and the listener's certificate in force.
	password    atomic.Pointer[string]
	certificate atomic.Pointer[tls.Certificate]
}

// Start starts a simulator.
func Start(options Options) (*VCenter, error) {
	model := simulator.VPX()
	model.Cluster = 1
	model.ClusterHost = 1
	model.Host = 0
	model.Portgroup = 0
	model.Machine = 0
	// A vCenter is at least as new as its hosts, and clients ask for the API version that it names here.
	about := &model.ServiceContent.About
	about.Version, about.ApiVersion = productVersion, apiVersion
	// Every simulator on a machine has the same. A vCenter keeps its own when it restarts, as its certificate.
	about.InstanceUuid = uuid.NewSHA1(uuid.NameSpaceOID, options.Certificate.Certificate[0]).String()
	if err := model.Create(); err != nil {
		return nil, err
	}
	if options.ReconfigureTime > 0 {
		// The setting is the simulator's, not the model's: one process has one vCenter.
		simulator.TaskDelay.MethodDelay = map[string]int{
			"ReconfigVm": int(options.ReconfigureTime.Milliseconds()),
			// A task would otherwise lock its object from the call on, and readers wait for its end.
			"LockHandoff": 0,
		}
	}

	vcenter := &VCenter{options: options, model: model, registry: model.Map()}
	vcenter.power.settings = make(map[types.ManagedObjectReference]PowerSettings)
	vcenter.screens.settings = make(map[types.ManagedObjectReference]ScreenSettings)
	vcenter.power.stubborn = make(map[types.ManagedObjectReference]bool)
	vcenter.overrideMethods()
	if err := vcenter.SetHost(templateHost, HostSettings{Version: hostVersion}); err != nil {
		return nil, err
	}

	model.Service.TLS = vcenter.rotate()
	model.Service.Listen = &url.URL{Host: options.Listen, User: options.Login}
	model.Service.HandleFunc("/screen", vcenter.serveScreen)
	vcenter.server = model.Service.NewServer()
	return vcenter, nil
}

// Address is where the SDK listens.
func (v *VCenter) Address() string {
	return v.server.Listener.Addr().String()
}

// Close stops the simulator and removes its files.
func (v *VCenter) Close() {
	v.server.Close()
	v.model.Remove()
}

// context returns a context of the simulator for work that no call asked for.
func (v *VCenter) context() *simulator.Context {
	return &simulator.Context{Context: v.model.Service.Context.Context, Map: v.registry}
}
