package vcenter

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/types"
)

const versionPath = "summary.config.product.version"

func TestHostsDifferInVersionAndCertificate(t *testing.T) {
	site := newSite(t, Options{})
	for name, version := range map[string]string{hostA: "6.7.0", hostB: "8.0.2"} {
		body := `{"version":"` + version + `","certificate":"certificate of ` + name + `"}`
		if status := site.control(name, body); status != http.StatusNoContent {
			t.Fatalf("%s: %d", name, status)
		}
	}
	for name, version := range map[string]string{hostA: "6.7.0", hostB: "8.0.2"} {
		found := site.properties(t, site.hostSystem(t, name), versionPath, "config.certificate")
		if found[versionPath] != version {
			t.Errorf("%s: version %v", name, found[versionPath])
		}
		certificate := found["config.certificate"].(types.ArrayOfByte)
		if string(certificate.Byte) != "certificate of "+name {
			t.Errorf("%s: certificate %q", name, certificate.Byte)
		}
	}
}

func TestAChangeOfAHostReachesThoseWhoWait(t *testing.T) {
	site := newSite(t, Options{})
	watcher := site.login(t)
	host := site.hostSystem(t, hostA).Reference()
	seen, first := make(chan string, 1), make(chan struct{})
	go func() {
		collector := property.DefaultCollector(watcher.Client)
		told := false
		err := property.Wait(t.Context(), collector, host, []string{"config.certificate"}, func(changes []types.PropertyChange) bool {
			if !told {
				told = true
				close(first)
				return false
			}
			seen <- string(changes[0].Val.(types.ArrayOfByte).Byte)
			return true
		})
		if err != nil {
			seen <- err.Error()
		}
	}()
	<-first
	if err := site.SetHost(hostA, HostSettings{Certificate: "another"}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "another" {
		t.Errorf("seen: %q", got)
	}
}

func TestTheControlAPIRefusesWhatItDoesNotKnow(t *testing.T) {
	site := newSite(t, Options{})
	for body, want := range map[string]int{
		`{"version":"8.0.2"}`: http.StatusNotFound,
		`{"versoin":"8.0.2"}`: http.StatusBadRequest,
		`8.0.2`:               http.StatusBadRequest,
	} {
		if got := site.control("no-such-host", body); got != want {
			t.Errorf("%s: %d", body, got)
		}
	}
}

// control puts settings of a host through the control API and returns the status.
func (s *site) control(host, body string) int {
	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPut, "/hosts/"+host, strings.NewReader(body)))
	return recorder.Code
}
