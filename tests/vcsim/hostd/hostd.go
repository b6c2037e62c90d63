// Package hostd stands in for the console side of ESXi hosts.
//
// A console of vSphere 7 and later comes about in two steps. vCenter asks the host that runs the virtual
// machine for a ticket and hands it to its caller (VirtualMachine.AcquireTicket("webmks")); the holder
// then opens a WebSocket at the host's HTTPS port, wss://HOST:PORT/ticket/TICKET, and speaks RFB in its
// binary messages. This package is the host in both steps:
//
//   - Hosts holds the hosts, their tickets and open consoles (hosts.go, tickets.go);
//   - each host has a TLS listener with a certificate of its own (host.go) and relays the WebSocket to
//     the VNC server that plays the virtual machine's screen (console.go);
//   - Hosts.Handler is the control API (control.go) through which a test arranges hosts and reads what
//     arrived at them, and through which the simulated vCenter asks for tickets (Client, client.go).
//
// A host behaves as public sources describe ESXi's. What they leave open is said where it is decided.
package hostd

import "time"

const (
	// DefaultTicketLifetime is what VMware's programming guides give for a console ticket.
	DefaultTicketLifetime = 30 * time.Second

	// Subprotocol is the only WebSocket subprotocol under which plain RFB clients are known to work.
	Subprotocol = "binary"
)
