// Command vcsim is govmomi's vCenter simulator with the inventory that the vncgate tests start from.
//
// One datacenter with one cluster and one datastore, and no virtual machines. The cluster's only host
// is the template that `govc cluster.add -username DC0_C0_H0` clones, so that a host added by a test
// has the datastore mounted. Everything else is done from outside, through the vSphere API.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8989", "address of the SDK listener")
	certificate := flag.String("cert", "", "PEM certificate chain of the listener")
	key := flag.String("key", "", "PEM private key of the listener")
	username := flag.String("username", "", "the one user that may log in")
	password := flag.String("password", "", "the user's password")
	flag.Parse()

	if err := serve(*listen, *certificate, *key, url.UserPassword(*username, *password)); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, certificate, key string, login *url.Userinfo) error {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}

	model := simulator.VPX()
	model.Cluster = 1
	model.ClusterHost = 1
	model.Host = 0
	model.Portgroup = 0
	model.Machine = 0
	defer model.Remove()
	if err := model.Create(); err != nil {
		return err
	}

	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	model.Service.Listen = &url.URL{Host: listen, User: login}
	server := model.Service.NewServer()
	defer server.Close()
	fmt.Printf("vcsim: listening on %s\n", server.Listener.Addr())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	return nil
}
