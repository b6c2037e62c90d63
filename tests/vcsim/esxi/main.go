// Command esxi stands in for the ESXi hosts of a simulated vCenter: their HTTPS ports, with the console
// tickets they make and the consoles behind them.
//
// It starts without hosts. A test adds them, and reads what arrived at them, through the control API on a
// loopback address; see package hostd.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"vncgate/tests/vcsim/hostd"
)

func main() {
	control := flag.String("control", "127.0.0.1:0", "loopback address of the control API")
	lifetime := flag.Duration("ticket-lifetime", hostd.DefaultTicketLifetime, "how long a ticket is valid")
	flag.Parse()

	listener, err := net.Listen("tcp", *control)
	if err != nil {
		log.Fatal(err)
	}
	hosts := hostd.NewHosts(*lifetime)
	defer hosts.Close()
	go http.Serve(listener, hosts.Handler()) // Ends with the process.
	fmt.Printf("esxi: control on %s\n", listener.Addr())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
