package vcenter

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	portKey  = "RemoteDisplay.vnc.port"
	portPath = `config.extraConfig["` + portKey + `"]`
)

func TestExtraConfigIsReadByKey(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	port := func() types.AnyType { return site.properties(t, vm, portPath, "name")[portPath] }

	if got := port(); got != nil {
		t.Errorf("before: %v", got)
	}
	// A number, as nova sends it.
	reconfigure(t, vm, portKey, int32(5901))
	if got := port(); got != (types.OptionValue{Key: portKey, Value: "5901"}) {
		t.Errorf("after: %#v", got)
	}
	reconfigure(t, vm, portKey, "5902")
	if got := port(); got != (types.OptionValue{Key: portKey, Value: "5902"}) {
		t.Errorf("changed: %#v", got)
	}
	reconfigure(t, vm, portKey, "")
	if got := port(); got != nil {
		t.Errorf("removed: %v", got)
	}
	reconfigure(t, vm, portKey, "")
	if got := port(); got != nil {
		t.Errorf("removed again: %v", got)
	}
}

func TestTwoMachinesCanGetTheSamePort(t *testing.T) {
	site := newSite(t, Options{ReconfigureTime: time.Second})
	vms := []*object.VirtualMachine{site.machine(t, "web1", hostA), site.machine(t, "web2", hostA)}
	var tasks []*object.Task
	for _, vm := range vms {
		task, err := vm.Reconfigure(t.Context(), change(portKey, "5901"))
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	// While both run, each looks as if the port were free.
	for _, vm := range vms {
		if got := site.properties(t, vm, portPath)[portPath]; got != nil {
			t.Errorf("during: %v", got)
		}
	}
	for i, task := range tasks {
		if err := task.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := site.properties(t, vms[i], portPath)[portPath]
		if got != (types.OptionValue{Key: portKey, Value: "5901"}) {
			t.Errorf("after: %v", got)
		}
	}
}

func TestAMachineIsReconfiguredByOneTaskAtATime(t *testing.T) {
	site := newSite(t, Options{ReconfigureTime: time.Second})
	vm := site.machine(t, "web1", hostA)
	first, err := vm.Reconfigure(t.Context(), change(portKey, "5901"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := vm.Reconfigure(t.Context(), change(portKey, "5902"))
	if err != nil {
		t.Fatal(err)
	}
	busy, ok := faultOfError(t, second.Wait(t.Context())).(*types.TaskInProgress)
	if !ok || busy.Task != first.Reference() {
		t.Errorf("meanwhile: %#v", busy)
	}
	if err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	reconfigure(t, vm, portKey, "5902")
}

func TestAChangeVersionThatIsNotCurrent(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	reconfigure(t, vm, portKey, "5901")
	seen := site.properties(t, vm, "config.changeVersion")["config.changeVersion"].(string)

	spec := change(portKey, "5902")
	spec.ChangeVersion = seen
	task, err := vm.Reconfigure(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	task, err = vm.Reconfigure(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := faultOfError(t, task.Wait(t.Context())).(*types.ConcurrentAccess); !ok {
		t.Error("not ConcurrentAccess")
	}
}

func TestExtraConfigNeedsThePrivilege(t *testing.T) {
	site := newSite(t, Options{})
	vm := site.machine(t, "web1", hostA)
	site.restrict(t, vm, "System.Read", consolePrivilege)
	_, err := vm.Reconfigure(t.Context(), change(portKey, "5901"))
	denied, ok := faultOfError(t, err).(types.NoPermission)
	if !ok || denied.PrivilegeId != advancedConfigPrivilege {
		t.Errorf("%#v", err)
	}
}

func change(key string, value types.AnyType) types.VirtualMachineConfigSpec {
	return types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}},
	}
}

func reconfigure(t *testing.T, vm *object.VirtualMachine, key string, value types.AnyType) {
	t.Helper()
	task, err := vm.Reconfigure(t.Context(), change(key, value))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
