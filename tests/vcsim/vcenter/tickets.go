package vcenter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/hostd"
)

const (
	// consolePrivilege is what vSphere requires for "mks" and "webmks" tickets.
	consolePrivilege = "VirtualMachine.Interact.ConsoleInteract"

	// consoleLimitKey bounds the open consoles of a virtual machine; -1, which VMware writes into new
	// machines, means the default.
	consoleLimitKey = "RemoteDisplay.maxConnections"

	// defaultConsoleLimit is what holds without that key.
	defaultConsoleLimit = 40
)

// AcquireTicket is VirtualMachine.AcquireTicket for the ticket type "webmks".
//
// Faults: NotSupported for other ticket types; NoPermission; InvalidState when the machine is not
// connected; InvalidPowerState when it is not powered on; MksConnectionLimitReached;
// HostNotReachable when package hostd knows no host of that name.
func (m *virtualMachines) AcquireTicket(ctx *simulator.Context, req *types.AcquireTicket) soap.HasFault {
	body := &methods.AcquireTicketBody{}
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	ctx.Map.WithLock(ctx, vm, func() {
		ticket, fault := m.vcenter.acquireTicket(ctx, vm, req.TicketType)
		if fault != nil {
			body.Fault_ = faultOf(fault)
			return
		}
		body.Res = &types.AcquireTicketResponse{Returnval: ticket}
	})
	return body
}

func (v *VCenter) acquireTicket(
	ctx *simulator.Context, vm *simulator.VirtualMachine, kind string,
) (types.VirtualMachineTicket, types.BaseMethodFault) {
	none := types.VirtualMachineTicket{}
	if kind != string(types.VirtualMachineTicketTypeWebmks) {
		return none, &types.NotSupported{}
	}
	if fault := require(ctx, vm.Self, consolePrivilege); fault != nil {
		return none, fault
	}
	if vm.Runtime.ConnectionState != types.VirtualMachineConnectionStateConnected {
		return none, &types.InvalidState{}
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return none, &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn,
			ExistingState:  vm.Runtime.PowerState,
		}
	}

	host := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	made, err := v.options.Hosts.NewTicket(host.Name, hostd.TicketRequest{
		VM:    vm.Config.InstanceUuid,
		Limit: consoleLimit(vm.Config.ExtraConfig),
	})
	var limit hostd.LimitReached
	switch {
	case errors.As(err, &limit):
		return none, &types.MksConnectionLimitReached{ConnectionLimit: int32(limit.Limit)}
	case err != nil:
		return none, &types.HostNotReachable{}
	}
	return v.describe(made, &host.HostSystem, vm.Config.Files.VmPathName), nil
}

func consoleLimit(extraConfig []types.BaseOptionValue) int {
	for _, option := range extraConfig {
		if value := option.GetOptionValue(); value.Key == consoleLimitKey {
			if limit, err := strconv.Atoi(fmt.Sprint(value.Value)); err == nil && limit > 0 {
				return limit
			}
		}
	}
	return defaultConsoleLimit
}

// describe fills the properties that a vCenter with hosts of that version fills.
func (v *VCenter) describe(
	made hostd.Ticket, host *mo.HostSystem, file string,
) types.VirtualMachineTicket {
	settings := v.hosts.get(host.Name)
	ticket := types.VirtualMachineTicket{
		Ticket:        made.Ticket,
		CfgFile:       file,
		Host:          host.Name,
		Port:          int32(made.Port),
		SslThumbprint: made.SHA1,
	}
	if settings.TicketHost != nil {
		ticket.Host = *settings.TicketHost
	}
	if omit := settings.OmitTicketPort; omit != nil && *omit {
		ticket.Port = 0
	}

	version := parseVersion(host.Summary.Config.Product.Version)
	if version.atLeast(7, 0, 3) {
		ticket.CertThumbprintList = []types.VirtualMachineCertThumbprint{
			{Thumbprint: made.SHA256, HashAlgorithm: string(types.VirtualMachineCertThumbprintHashAlgorithmSha256)},
		}
	}
	if version.atLeast(7, 0, 0) {
		ticket.Url = fmt.Sprintf("wss://%s:%d/ticket/%s", ticket.Host, made.Port, made.Ticket)
	}
	return ticket
}

// version is the product version of a host: major, minor, update.
type version [3]int

// parseVersion reads "7.0.3"; what is missing or no number is 0.
func parseVersion(text string) version {
	var parsed version
	for i, part := range strings.SplitN(text, ".", len(parsed)) {
		parsed[i], _ = strconv.Atoi(part)
	}
	return parsed
}

func (v version) atLeast(major, minor, update int) bool {
	for i, least := range [...]int{major, minor, update} {
		if v[i] != least {
			return v[i] > least
		}
	}
	return true
}
