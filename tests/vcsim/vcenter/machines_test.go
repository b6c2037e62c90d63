package vcenter

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

func TestMachinesOfTheControlAPIAreLikeThoseThatWereCreated(t *testing.T) {
	site := newSite(t, Options{})
	before := site.machine(t, "web1", hostB)
	request := httptest.NewRequest(http.MethodPost, "/hosts/"+hostB+"/machines", strings.NewReader(`{"count":50}`))
	answer := httptest.NewRecorder()
	site.Handler().ServeHTTP(answer, request)
	var machines []Machine
	if err := json.Unmarshal(answer.Body.Bytes(), &machines); err != nil || answer.Code != http.StatusCreated {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}

	last := machines[len(machines)-1]
	byInstanceUUID := true
	index := object.NewSearchIndex(site.client.Client)
	found, err := index.FindByUuid(t.Context(), nil, last.InstanceUUID, true, &byInstanceUUID)
	if err != nil || found == nil {
		t.Fatalf("%s is not found: %v", last.Name, err)
	}
	same := []string{"runtime.host", "runtime.powerState", "runtime.connectionState", "resourcePool", "parent"}
	properties, created := site.properties(t, found, same...), site.properties(t, before, same...)
	for _, path := range same {
		if properties[path] == nil || properties[path] != created[path] {
			t.Errorf("%s: %v, not %v", path, properties[path], created[path])
		}
	}
	const port = `config.extraConfig["RemoteDisplay.vnc.port"]`
	own := site.properties(t, found, "summary.config.name", "summary.config.instanceUuid", port)
	if own["summary.config.name"] != last.Name || own["summary.config.instanceUuid"] != last.InstanceUUID {
		t.Errorf("%v, not %v", own, last)
	}
	if option, ok := own[port].(types.OptionValue); !ok || option.Value != "5950" {
		t.Errorf("VNC port: %v", own[port])
	}
	onHost := site.properties(t, site.hostSystem(t, hostB), "vm")["vm"].(types.ArrayOfManagedObjectReference)
	if count := len(onHost.ManagedObjectReference); count != 51 {
		t.Errorf("the host has %d machines", count)
	}
}

func TestMachinesOfAHostThatIsNotThere(t *testing.T) {
	site := newSite(t, Options{})
	request := httptest.NewRequest(http.MethodPost, "/hosts/nobody/machines", strings.NewReader(`{"count":1}`))
	answer := httptest.NewRecorder()
	site.Handler().ServeHTTP(answer, request)
	if answer.Code != http.StatusNotFound {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}
