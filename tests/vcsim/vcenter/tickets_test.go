package vcenter

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/hostd"
)

const webmks = string(types.VirtualMachineTicketTypeWebmks)

func TestATicketSaysWhatTheHostsVersionKnows(t *testing.T) {
	site := newSite(t, Options{})
	state := site.standIn(t, hostA)
	vm := site.machine(t, "web1", hostA)
	for _, host := range []struct {
		version     string
		url, sha256 bool
	}{
		{version: "6.5.0"},
		{version: "6.7.0"},
		{version: "7.0.1", url: true},
		{version: "7.0.3", url: true, sha256: true},
		{version: "8.0.2", url: true, sha256: true},
	} {
		t.Run(host.version, func(t *testing.T) {
			if err := site.SetHost(hostA, HostSettings{Version: host.version}); err != nil {
				t.Fatal(err)
			}
			ticket, err := vm.AcquireTicket(t.Context(), webmks)
			if err != nil {
				t.Fatal(err)
			}
			if ticket.Host != hostA || state.Address != fmt.Sprintf("%s:%d", hostA, ticket.Port) {
				t.Errorf("host %q, port %d", ticket.Host, ticket.Port)
			}
			if ticket.Ticket == "" || len(ticket.SslThumbprint) != len("AB:")*20-1 {
				t.Errorf("ticket %q, thumbprint %q", ticket.Ticket, ticket.SslThumbprint)
			}
			if host.url != (ticket.Url == "wss://"+state.Address+"/ticket/"+ticket.Ticket) {
				t.Errorf("url %q", ticket.Url)
			}
			if host.sha256 != (len(ticket.CertThumbprintList) == 1) {
				t.Errorf("thumbprints %v", ticket.CertThumbprintList)
			}
		})
	}
}

func TestHostAndPortOfATicketCanBeUseless(t *testing.T) {
	site := newSite(t, Options{})
	site.standIn(t, hostB)
	vm := site.machine(t, "web1", hostB)
	omit := true
	if err := site.SetHost(hostB, HostSettings{OmitTicketPort: &omit}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "unresolvable.invalid"} {
		if err := site.SetHost(hostB, HostSettings{TicketHost: &name}); err != nil {
			t.Fatal(err)
		}
		ticket, err := vm.AcquireTicket(t.Context(), webmks)
		if err != nil || ticket.Host != name || ticket.Port != 0 {
			t.Errorf("%+v, %v", ticket, err)
		}
	}
}

func TestATicketIsOfTheHostThatRunsTheMachine(t *testing.T) {
	site := newSite(t, Options{})
	site.standIn(t, hostA)
	site.standIn(t, hostB)
	vm := site.machine(t, "web1", hostA)
	target := site.hostSystem(t, hostB).Reference()
	task, err := vm.Relocate(t.Context(), types.VirtualMachineRelocateSpec{Host: &target}, types.VirtualMachineMovePriorityDefaultPriority)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ticket, err := vm.AcquireTicket(t.Context(), webmks)
	if err != nil || ticket.Host != hostB {
		t.Errorf("%+v, %v", ticket, err)
	}
}

func TestAMachineThatDoesNotRunHasNoTicket(t *testing.T) {
	site := newSite(t, Options{})
	site.standIn(t, hostA)
	vm := site.machine(t, "web1", hostA)

	site.power(t, vm.Suspend)
	suspended, ok := refusal(t, vm).(types.InvalidPowerState)
	if !ok || suspended.ExistingState != types.VirtualMachinePowerStateSuspended {
		t.Errorf("suspended: %#v", suspended)
	}
	site.power(t, vm.PowerOff)
	off, ok := refusal(t, vm).(types.InvalidPowerState)
	if !ok || off.ExistingState != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("off: %#v", off)
	}
	site.power(t, vm.PowerOn)
	site.registry.AtomicUpdate(site.context(), site.registry.Get(vm.Reference()), []types.PropertyChange{
		{Name: "runtime.connectionState", Val: types.VirtualMachineConnectionStateDisconnected},
	})
	if _, ok := refusal(t, vm).(types.InvalidState); !ok {
		t.Errorf("disconnected: not InvalidState")
	}
	if state, err := site.hosts.Host(hostA); err != nil || state.Tickets != 0 {
		t.Errorf("tickets were made: %+v, %v", state, err)
	}
}

func TestATicketNeedsThePrivilege(t *testing.T) {
	site := newSite(t, Options{})
	site.standIn(t, hostA)
	vm, other := site.machine(t, "web1", hostA), site.machine(t, "web2", hostA)

	site.restrict(t, vm, "System.Read", "VirtualMachine.Interact.PowerOn")
	denied, ok := refusal(t, vm).(types.NoPermission)
	if !ok || denied.PrivilegeId != consolePrivilege || *denied.Object != vm.Reference() {
		t.Errorf("%#v", denied)
	}
	if missing := denied.MissingPrivileges; len(missing) != 1 || missing[0].PrivilegeIds[0] != consolePrivilege {
		t.Errorf("%#v", missing)
	}
	if _, err := other.AcquireTicket(t.Context(), webmks); err != nil {
		t.Errorf("of another machine: %v", err)
	}
}

func TestARoleWithThePrivilegeIsEnough(t *testing.T) {
	site := newSite(t, Options{})
	site.standIn(t, hostA)
	vm := site.machine(t, "web1", hostA)
	site.restrict(t, vm, "System.Read", consolePrivilege)
	if _, err := vm.AcquireTicket(t.Context(), webmks); err != nil {
		t.Error(err)
	}
}

func TestTheLimitOfConsolesIsTheMachines(t *testing.T) {
	for name, machine := range map[string]struct{ value, limit int }{
		"unset":   {limit: defaultConsoleLimit},
		"default": {value: -1, limit: defaultConsoleLimit},
		"two":     {value: 2, limit: 2},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t, Options{})
			site.standIn(t, hostA)
			vm := site.machine(t, "web1", hostA)
			site.screen(t, vm)
			if machine.value != 0 {
				reconfigure(t, vm, consoleLimitKey, fmt.Sprint(machine.value))
			}
			for range machine.limit {
				ticket, err := vm.AcquireTicket(t.Context(), webmks)
				if err != nil {
					t.Fatal(err)
				}
				openConsole(t, ticket)
			}
			reached, ok := refusal(t, vm).(types.MksConnectionLimitReached)
			if !ok || int(reached.ConnectionLimit) != machine.limit {
				t.Errorf("%#v", reached)
			}
		})
	}
}

func TestAHostThatDoesNotAnswer(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	if _, ok := refusal(t, vm).(types.HostNotReachable); !ok {
		t.Error("not HostNotReachable")
	}
}

func TestOtherKindsOfTicketsAreNotSupported(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	_, err := vm.AcquireTicket(t.Context(), string(types.VirtualMachineTicketTypeMks))
	if _, ok := faultOfError(t, err).(types.NotSupported); !ok {
		t.Error(err)
	}
}

func TestWithoutTheStandInThereIsNoSuchMethod(t *testing.T) {
	site := newSiteWithout(t, Options{})
	vm := site.machine(t, "web1", hostA)
	_, err := vm.AcquireTicket(t.Context(), webmks)
	if _, ok := faultOfError(t, err).(types.MethodNotFound); !ok {
		t.Error(err)
	}
}

// screen gives a machine a screen that accepts connections and stays silent.
func (s *site) screen(t *testing.T, vm *object.VirtualMachine) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	uuid := s.properties(t, vm, "config.instanceUuid")["config.instanceUuid"].(string)
	s.hosts.SetScreen(uuid, listener.Addr().String())
}

// openConsole opens the console of a ticket for the rest of the test.
func openConsole(t *testing.T, ticket *types.VirtualMachineTicket) {
	url := fmt.Sprintf("wss://%s:%d/ticket/%s", ticket.Host, ticket.Port, ticket.Ticket)
	console, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}},
		Subprotocols: []string{hostd.Subprotocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { console.CloseNow() })
}

// refusal asks for a ticket and returns the fault.
func refusal(t *testing.T, vm *object.VirtualMachine) types.AnyType {
	_, err := vm.AcquireTicket(t.Context(), webmks)
	return faultOfError(t, err)
}
