// Command vcsim is a simulated vCenter for the vncgate tests; see package vcenter.
//
// It is changed from outside: through the vSphere API, and for what that has no method for through the
// control API on a loopback address.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"vncgate/tests/vcsim/hostd"
	"vncgate/tests/vcsim/vcenter"
)

func main() {
	var options vcenter.Options
	flag.StringVar(&options.Listen, "listen", "127.0.0.1:8989", "address of the SDK listener")
	certificate := flag.String("cert", "", "PEM certificate chain of the listener")
	key := flag.String("key", "", "PEM private key of the listener")
	username := flag.String("username", "", "the one user that may log in")
	password := flag.String("password", "", "the user's password")
	control := flag.String("control", "127.0.0.1:0", "loopback address of the control API")
	esxi := flag.String("esxi", "", "URL of the control API of the esxi command, which makes console tickets")
	flag.DurationVar(&options.ReconfigureTime, "reconfigure-time", 0, "how long a ReconfigVM_Task takes")
	flag.Parse()

	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	options.Certificate = pair
	options.Login = url.UserPassword(*username, *password)
	if *esxi != "" {
		options.Hosts = &hostd.Client{URL: *esxi}
	}
	if err := serve(options, *control); err != nil {
		log.Fatal(err)
	}
}

func serve(options vcenter.Options, control string) error {
	listener, err := net.Listen("tcp", control)
	if err != nil {
		return err
	}
	simulated, err := vcenter.Start(options)
	if err != nil {
		return err
	}
	defer simulated.Close()
	go http.Serve(listener, simulated.Handler()) // Ends with the process.
	fmt.Printf("vcsim: control on %s\n", listener.Addr())
	fmt.Printf("vcsim: listening on %s\n", simulated.Address())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	return nil
}
