//! What happened in each callback: its host calls, its cost, and injected faults.

use crate::abi::{BufferType, Status};

/// One call into the filter and everything that it did.
///
/// All figures depend on the module and its input alone, never on the machine, so a test can hold
/// them to exact values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The export that was called, `proxy_on_response_body` for instance.
    pub function: &'static str,
    /// The host calls that it made, in order.
    pub host_calls: Vec<HostCall>,
    /// Bytes that host calls copied into the module's memory.
    pub copied_in: usize,
    /// WebAssembly instructions that ran, as wasmtime counts fuel.
    pub fuel: u64,
}

impl Callback {
    /// The figures alone.
    pub fn counts(&self) -> Counts {
        Counts { host_calls: self.host_calls.len(), fuel: self.fuel }
    }

    /// Whether any host call touched that buffer.
    pub fn touches(&self, buffer: BufferType) -> bool {
        self.host_calls.iter().any(|call| call.buffer == Some(buffer))
    }
}

/// What a callback cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// How many host functions were called.
    pub host_calls: usize,
    /// WebAssembly instructions that ran, as wasmtime counts fuel.
    pub fuel: u64,
}

/// One call of a host function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// The import that was called, `proxy_get_buffer_bytes` for instance.
    pub function: &'static str,
    /// Which buffer it was about, for functions that read or change one.
    pub buffer: Option<BufferType>,
}

/// Makes a host call fail instead of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which call, counted from 0 since [`Host::inject`](crate::Host::inject).
    pub nth: usize,
    /// What it answers.
    pub status: Status,
    /// Whether every call after it fails as well.
    pub lasting: bool,
}

/// Collects [`Callback`]s and injects [`Fault`]s.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    callbacks: Vec<Callback>,
    fault: Option<Fault>,
    calls_until_fault: usize,
    struck: Option<HostCall>,
}

impl Recorder {
    pub(crate) fn begin(&mut self, function: &'static str) {
        self.callbacks.push(Callback { function, host_calls: Vec::new(), copied_in: 0, fuel: 0 });
    }

    pub(crate) fn end(&mut self, fuel: u64) {
        if let Some(callback) = self.callbacks.last_mut() {
            callback.fuel = fuel;
        }
    }

    /// Notes a host call. Answers the status that it has to fail with, if a fault is due.
    pub(crate) fn host_call(
        &mut self,
        function: &'static str,
        buffer: Option<BufferType>,
    ) -> Option<Status> {
        let callback = self.callbacks.last_mut()?;
        let call = HostCall { function, buffer };
        callback.host_calls.push(call);
        let fault = self.fault?;
        if self.calls_until_fault > 0 {
            self.calls_until_fault -= 1;
            return None;
        }
        self.struck.get_or_insert(call);
        if !fault.lasting {
            self.fault = None;
        }
        Some(fault.status)
    }

    pub(crate) fn copied_in(&mut self, bytes: usize) {
        if let Some(callback) = self.callbacks.last_mut() {
            callback.copied_in += bytes;
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Callback> {
        std::mem::take(&mut self.callbacks)
    }

    pub(crate) fn inject(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.calls_until_fault = fault.nth;
        self.struck = None;
    }

    pub(crate) fn mend(&mut self) {
        self.fault = None;
    }

    pub(crate) fn struck(&self) -> Option<HostCall> {
        self.struck
    }
}
