//! Paths of the properties that more than one reader needs.

/// `poweredOn`, `poweredOff` or `suspended`.
pub(super) const POWER_STATE: &str = "runtime.powerState";
/// The host that a machine is registered on.
pub(super) const HOST: &str = "runtime.host";
/// Every option of a machine (`OptionValue`), of which the reader keeps those of VNC. ESXi takes their keys without
/// regard to case, and a keyed path has one spelling only.
pub(super) const EXTRA_CONFIG: &str = "config.extraConfig";
/// A state of the machine's configuration. A change made on condition of it fails if the state is no longer current. It
/// is there if and only if the configuration is.
pub(super) const CHANGE_VERSION: &str = "config.changeVersion";
/// Whether a machine is a template. Like [`CHANGE_VERSION`], it is there if and only if the configuration is.
pub(super) const TEMPLATE: &str = "config.template";
/// nova's key for the console port.
pub(super) const VNC_PORT: &str = "RemoteDisplay.vnc.port";
/// Switches VNC on or off.
pub(super) const VNC_ENABLED: &str = "RemoteDisplay.vnc.enabled";
/// Opens the console, with VNC authentication.
pub(super) const VNC_PASSWORD: &str = "RemoteDisplay.vnc.password";
