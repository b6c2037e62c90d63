package vcenter

import (
	"bytes"
	"image/png"
	"io"
	"net/url"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// pictureOf downloads a picture as govc does.
func (s *site) pictureOf(t *testing.T, vm *object.VirtualMachine) ([]byte, error) {
	address := s.client.URL()
	address.Path, address.RawQuery = "/screen", url.Values{"id": {vm.Reference().Value}}.Encode()
	body, _, err := s.client.Download(t.Context(), address, &soap.DefaultDownload)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func TestAScreenIsAPicture(t *testing.T) {
	s := newSiteWithout(t, Options{})
	vm, other := s.machine(t, "vm-1", hostA), s.machine(t, "vm-2", hostA)
	first, err := s.pictureOf(t, vm)
	if err != nil {
		t.Fatal(err)
	}
	config, err := png.DecodeConfig(bytes.NewReader(first))
	if err != nil || config.Width != screenWidth || config.Height != screenHeight {
		t.Error(config, err)
	}
	if second, err := s.pictureOf(t, other); err != nil || bytes.Equal(first, second) {
		t.Error("two machines show the same", err)
	}
	s.power(t, vm.PowerOff)
	if _, err := s.pictureOf(t, vm); err == nil {
		t.Error("a machine that is off shows something")
	}
}

func TestAScreenNeedsASessionAndItsPrivileges(t *testing.T) {
	s := newSiteWithout(t, Options{})
	vm := s.machine(t, "vm-1", hostA)
	s.restrict(t, vm, consolePrivilege)
	if _, err := s.pictureOf(t, vm); err == nil {
		t.Error("seen without the privilege")
	}
	asked := types.HasUserPrivilegeOnEntities{
		This:     *s.client.ServiceContent.AuthorizationManager,
		Entities: []types.ManagedObjectReference{vm.Reference()},
		UserName: username,
		PrivId:   []string{consolePrivilege, screenshotPrivilege},
	}
	told, err := methods.HasUserPrivilegeOnEntities(t.Context(), s.client, &asked)
	if err != nil {
		t.Fatal(err)
	}
	if found := told.Returnval[0].PrivAvailability; !found[0].IsGranted || found[1].IsGranted {
		t.Error(found)
	}
	if err := s.client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pictureOf(t, vm); err == nil {
		t.Error("seen without a session")
	}
}
