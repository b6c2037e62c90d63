package vcenter

import (
	"crypto/tls"
	"net/http"

	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/internal/control"
)

// rotate makes the login and the certificate changeable. Sessions and connections that are open stay.
func (v *VCenter) rotate() *tls.Config {
	v.password.Store(passwordOf(v.options))
	v.certificate.Store(&v.options.Certificate)
	v.registry.SessionManager().ValidLogin = func(login *types.Login) bool {
		return login.UserName == v.options.Login.Username() && login.Password == *v.password.Load()
	}
	return &tls.Config{
		Certificates: []tls.Certificate{v.options.Certificate},
		// Unlike GetCertificate it is also asked about clients without SNI.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{
				Certificates: []tls.Certificate{*v.certificate.Load()},
				ClientAuth:   tls.RequestClientCert,
			}, nil
		},
	}
}

func passwordOf(options Options) *string {
	password, _ := options.Login.Password()
	return &password
}

func (v *VCenter) handleRotation(mux *http.ServeMux) {
	mux.HandleFunc("PUT /password", func(w http.ResponseWriter, r *http.Request) {
		var next struct {
			Password string `json:"password"`
		}
		if !control.Read(w, r, &next) {
			return
		}
		v.password.Store(&next.Password)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("PUT /certificate", func(w http.ResponseWriter, r *http.Request) {
		var next struct {
			Certificate string `json:"certificate"`
			Key         string `json:"key"`
		}
		if !control.Read(w, r, &next) {
			return
		}
		pair, err := tls.X509KeyPair([]byte(next.Certificate), []byte(next.Key))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		v.certificate.Store(&pair)
		w.WriteHeader(http.StatusNoContent)
	})
}
