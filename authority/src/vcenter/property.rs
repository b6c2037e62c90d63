//! Paths of the properties that more than one reader needs.

/// `poweredOn`, `poweredOff` or `suspended`.
pub(super) const POWER_STATE: &str = "runtime.powerState";
/// The host that a machine is registered on.
pub(super) const HOST: &str = "runtime.host";
/// nova's key for the console port, a keyed element of an array.
pub(super) const VNC_PORT: &str = r#"config.extraConfig["RemoteDisplay.vnc.port"]"#;
/// Switches VNC on or off.
pub(super) const VNC_ENABLED: &str = r#"config.extraConfig["RemoteDisplay.vnc.enabled"]"#;
