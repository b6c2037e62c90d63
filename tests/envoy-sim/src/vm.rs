//! One instance of the filter's module, and calls into it.

use crate::context::{ROOT_CONTEXT, State};
use crate::imports::{self, Guest};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use thiserror::Error;
use wasmtime::{
    Config, Engine, Instance, Linker, Module, OptLevel, Store, TypedFunc, WasmParams, WasmResults,
};

/// Fuel that one callback may burn. A console frame costs thousands; this ends an endless loop
/// within seconds instead of hanging the test.
const FUEL_PER_CALLBACK: u64 = 1_000_000_000;

/// A filter that is compiled and not yet started.
#[derive(Clone)]
pub struct Filter {
    module: Module,
}

/// Why a file is not a filter that this host can run.
#[derive(Debug, Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a WebAssembly module.
    #[error("not a WebAssembly module: {0:#}")]
    Invalid(wasmtime::Error),
    /// It does not say that it speaks ABI 0.2.1.
    #[error("the module does not export proxy_abi_version_0_2_1")]
    OtherAbi,
}

/// Why a filter did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// It imports what is no function of the ABI, exports no memory or allocator, or has a function
    /// of the ABI with another signature.
    #[error("the module does not fit the ABI: {0:#}")]
    Link(wasmtime::Error),
    /// It trapped.
    #[error("the filter trapped while it started: {0}")]
    Trap(String),
    /// `proxy_on_vm_start` or `proxy_on_configure` returned false.
    #[error("{function} refused its configuration; the filter logged {logs:?}")]
    Refused {
        /// Which of the two.
        function: &'static str,
        /// Every line that the filter logged until then.
        logs: Vec<crate::LogLine>,
    },
}

impl Filter {
    /// Compiles the module in a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no filter; see [`LoadError`].
    pub fn from_file(path: &Path) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path)
            .map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    /// Compiles a module.
    ///
    /// # Errors
    /// When it is no filter; see [`LoadError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut config = Config::new();
        // Tests run little code and compile all of it: speed is wanted where the compiler is.
        config.consume_fuel(true).cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).map_err(LoadError::Invalid)?;
        let module = Module::new(&engine, bytes).map_err(LoadError::Invalid)?;
        if module.get_export("proxy_abi_version_0_2_1").is_none() {
            return Err(LoadError::OtherAbi);
        }
        Ok(Self { module })
    }

    /// What the module imports, as `module.name`.
    pub fn imports(&self) -> Vec<String> {
        self.module
            .imports()
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect()
    }
}

/// A running instance.
pub(crate) struct Vm {
    store: Store<State>,
    instance: Instance,
    /// Why it runs no longer. Envoy never enters a VM again that has trapped.
    trap: Option<String>,
}

/// The filter trapped, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trapped;

impl Vm {
    /// Instantiates the module, creates its root context and configures it.
    pub(crate) fn start(filter: &Filter, state: State) -> Result<Self, StartError> {
        let engine = filter.module.engine();
        let mut linker = Linker::new(engine);
        imports::link(&mut linker).map_err(StartError::Link)?;
        let mut store = Store::new(engine, state);
        store.set_fuel(FUEL_PER_CALLBACK).map_err(StartError::Link)?;
        let instance = linker.instantiate(&mut store, &filter.module).map_err(StartError::Link)?;
        let guest = Self::guest(&mut store, &instance).map_err(StartError::Link)?;
        store.data_mut().guest = Some(guest);
        let mut vm = Self { store, instance, trap: None };
        vm.configure()?;
        Ok(vm)
    }

    pub(crate) fn state(&self) -> &State {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// What the host knows, for the VM that comes after this one.
    pub(crate) fn take_state(&mut self) -> State {
        let nothing = State::new(Vec::new(), HashMap::new());
        std::mem::replace(self.state_mut(), nothing).outliving_its_vm()
    }

    pub(crate) fn trap(&self) -> Option<&str> {
        self.trap.as_deref()
    }

    /// Size of the module's memory in bytes. WebAssembly memory never shrinks.
    pub(crate) fn memory_size(&self) -> usize {
        let guest = self.state().guest.as_ref();
        guest.map_or(0, |guest| guest.memory.data_size(&self.store))
    }

    /// Calls an export for a context. None when the module has no such export.
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        function: &'static str,
        arguments: P,
    ) -> Result<Option<R>, Trapped> {
        if self.trap.is_some() {
            return Err(Trapped);
        }
        if self.instance.get_func(&mut self.store, function).is_none() {
            return Ok(None);
        }
        let state = self.store.data_mut();
        state.current_context = context;
        state.effective_context = None;
        state.recorder.begin(function);
        let result = self.call_metered(function, arguments);
        result.map(Some).map_err(|error| {
            self.trap = Some(format!("{function}: {error:#}"));
            Trapped
        })
    }

    fn call_metered<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &'static str,
        arguments: P,
    ) -> wasmtime::Result<R> {
        let export: TypedFunc<P, R> = self.instance.get_typed_func(&mut self.store, function)?;
        self.store.set_fuel(FUEL_PER_CALLBACK)?;
        let result = export.call(&mut self.store, arguments);
        let fuel = FUEL_PER_CALLBACK - self.store.get_fuel()?;
        self.store.data_mut().recorder.end(fuel);
        result
    }

    fn guest(store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Guest> {
        let memory = instance
            .get_memory(&mut *store, "memory")
            .ok_or_else(|| wasmtime::format_err!("no export `memory`"))?;
        let allocate = instance.get_typed_func(&mut *store, "malloc")?;
        Ok(Guest { memory, allocate })
    }

    fn configure(&mut self) -> Result<(), StartError> {
        let size = self.state().plugin_configuration.len();
        let size = u32::try_from(size).expect("a configuration is smaller than 4 GiB");
        self.started::<(), ()>("_initialize", ())?;
        self.started::<(u32, u32), ()>("proxy_on_context_create", (ROOT_CONTEXT, 0))?;
        self.accepted("proxy_on_vm_start", 0)?;
        self.state_mut().configuring = true;
        self.accepted("proxy_on_configure", size)?;
        self.state_mut().configuring = false;
        Ok(())
    }

    fn accepted(&mut self, function: &'static str, size: u32) -> Result<(), StartError> {
        let accepted = self.started::<(u32, u32), u32>(function, (ROOT_CONTEXT, size))?;
        if accepted == Some(0) {
            let logs = self.state().logs.clone();
            return Err(StartError::Refused { function, logs });
        }
        Ok(())
    }

    fn started<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &'static str,
        arguments: P,
    ) -> Result<Option<R>, StartError> {
        self.call(ROOT_CONTEXT, function, arguments)
            .map_err(|Trapped| StartError::Trap(self.trap.clone().unwrap_or_default()))
    }
}
