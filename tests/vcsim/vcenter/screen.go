package vcenter

import (
	"bytes"
	"hash/fnv"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/internal/control"
)

// screenshotPrivilege is what vSphere requires to see a screen, besides consolePrivilege.
const screenshotPrivilege = "VirtualMachine.Interact.CreateScreenshot"

// The size of a picture: that of a text screen.
const screenWidth, screenHeight = 720, 400

// ScreenSettings change what the pictures of a machine's screen are.
type ScreenSettings struct {
	// Answer is sent in a picture's place, unless it is empty.
	Answer string `json:"answer"`
	// Bytes is how long that is, by repeating it.
	Bytes int `json:"bytes"`
	// Takes is how long a picture takes, in milliseconds.
	Takes int `json:"takes_ms"`
}

// screenTable has the settings of the machines that have any.
type screenTable struct {
	mu       sync.Mutex
	settings map[types.ManagedObjectReference]ScreenSettings
}

// serveScreen is GET /screen?id=MACHINE of vCenter's web server: what a machine shows, as PNG. It takes the session of the
// SDK. No reference describes it; VMware's own govc uses it (vm.console -capture).
func (v *VCenter) serveScreen(w http.ResponseWriter, r *http.Request) {
	ctx, user := v.context(), v.options.Login.Username()
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil || !v.isActive(ctx, strings.Trim(cookie.Value, `"`), user) {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	ctx.Session = &simulator.Session{UserSession: types.UserSession{UserName: user}}
	reference := types.ManagedObjectReference{Type: "VirtualMachine", Value: r.URL.Query().Get("id")}
	vm, isMachine := v.registry.Get(reference).(*simulator.VirtualMachine)
	if !isMachine {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for _, privilege := range []string{consolePrivilege, screenshotPrivilege} {
		if require(ctx, reference, privilege) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
	}
	var name string
	var isOn bool
	v.registry.WithLock(ctx, vm, func() {
		name, isOn = vm.Name, vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	})
	v.screens.mu.Lock()
	settings := v.screens.settings[reference]
	v.screens.mu.Unlock()
	time.Sleep(time.Duration(settings.Takes) * time.Millisecond)
	switch {
	case !isOn:
		w.WriteHeader(http.StatusInternalServerError)
	case settings.Answer != "":
		w.Write(bytes.Repeat([]byte(settings.Answer), 1+settings.Bytes/len(settings.Answer))) // Fails only if the client is gone.
	default:
		w.Header().Set("Content-Type", "image/png")
		png.Encode(w, picture(name)) // Fails only if the client is gone.
	}
}

func (v *VCenter) isActive(ctx *simulator.Context, key, user string) bool {
	answer := v.registry.SessionManager().SessionIsActive(ctx, &types.SessionIsActive{SessionID: key, UserName: user})
	return answer.(*methods.SessionIsActiveBody).Res.Returnval
}

// picture is a screen with bars whose colours and lengths are the name's.
func picture(name string) image.Image {
	screen := image.NewRGBA(image.Rect(0, 0, screenWidth, screenHeight))
	draw.Draw(screen, screen.Bounds(), image.Black, image.Point{}, draw.Src)
	hash := fnv.New64a()
	for line := range 12 {
		hash.Write([]byte(name))
		sum := hash.Sum64()
		bar := image.Rect(16, 16+32*line, 32+int(sum%(screenWidth-64)), 32+32*line)
		shade := color.RGBA{uint8(sum>>8) | 0x40, uint8(sum>>16) | 0x40, uint8(sum>>24) | 0x40, 0xff}
		draw.Draw(screen, bar, image.NewUniform(shade), image.Point{}, draw.Src)
	}
	return screen
}

func (v *VCenter) handleScreens(mux *http.ServeMux) {
	mux.HandleFunc("PUT /machines/{machine}/screen", func(w http.ResponseWriter, r *http.Request) {
		var settings ScreenSettings
		if !control.Read(w, r, &settings) {
			return
		}
		vm, err := v.machineNamed(r.PathValue("machine"))
		if err == nil {
			v.screens.mu.Lock()
			v.screens.settings[vm.Self] = settings
			v.screens.mu.Unlock()
		}
		answer(w, err)
	})
}
