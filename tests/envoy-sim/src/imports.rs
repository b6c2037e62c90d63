//! The host functions: arguments read from the module's memory, results written into it.
//!
//! A failing function answers its [`Status`] and changes nothing.

use crate::abi::{BufferType, Direction, MapType, Status};
use crate::context::{End, State};
use crate::half;
use crate::headers::HeaderMap;
use std::time::Duration;
use wasmtime::{Caller, Extern, Linker, Memory, TypedFunc, Val, bail};

/// Where every function of the ABI is imported from.
const ABI_MODULE: &str = "env";

/// The instantiated module as host functions need it.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    /// The module's own allocator: whatever the host returns lies in memory that this gave out and
    /// that the module frees.
    pub(crate) allocate: TypedFunc<u32, u32>,
}

/// Offers every function of the ABI to a module.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    link_general(linker)?;
    link_headers_and_bodies(linker)?;
    link_streams_and_calls(linker)?;
    link_state_and_metrics(linker)
}

/// Why a host function does not answer `Ok`.
enum Failure {
    Status(Status),
    /// The module's allocator trapped.
    Trap(wasmtime::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

type Outcome = Result<(), Failure>;

/// A running host function: the caller's memory and the host's state.
struct HostCall<'a, 'b> {
    caller: &'a mut Caller<'b, State>,
    guest: Guest,
}

impl HostCall<'_, '_> {
    fn state(&mut self) -> &mut State {
        self.caller.data_mut()
    }

    fn read(&self, pointer: u32, size: u32) -> Result<Vec<u8>, Status> {
        let memory = self.guest.memory.data(&self.caller);
        let bytes = memory.get(to_usize(pointer)..).and_then(|tail| tail.get(..to_usize(size)));
        bytes.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
    }

    fn read_text(&self, pointer: u32, size: u32) -> Result<String, Status> {
        let bytes = self.read(pointer, size)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read_map(&self, pointer: u32, size: u32) -> Result<HeaderMap, Status> {
        Ok(HeaderMap::deserialize(&self.read(pointer, size)?))
    }

    fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Status> {
        self.guest
            .memory
            .write(&mut self.caller, to_usize(pointer), bytes)
            .map_err(|_| Status::InvalidMemoryAccess)
    }

    /// Ends the current stream if a body of it has grown too large. The module hears of that before this
    /// host call returns to it.
    fn end_if_overflowing(&mut self) -> Outcome {
        let Some(id) = self.state().overflowing_stream() else { return Ok(()) };
        let state = self.state();
        let contexts = (state.current_context, state.effective_context);
        (state.current_context, state.effective_context) = (id, None);
        if let Some(stream) = state.streams.get_mut(&id) {
            stream.ended = Some(End::BufferOverflow);
        }
        for name in ["proxy_on_log", "proxy_on_done", "proxy_on_delete"] {
            let export = self.caller.get_export(name).and_then(Extern::into_func);
            let Some(function) = export else { continue };
            let results = function.ty(&*self.caller).results().len();
            let (arguments, mut results) =
                ([Val::I32(id.cast_signed())], vec![Val::I32(0); results]);
            let called = function.call(&mut *self.caller, &arguments, &mut results);
            called.map_err(Failure::Trap)?;
        }
        let state = self.state();
        (state.current_context, state.effective_context) = contexts;
        if let Some(stream) = state.streams.get_mut(&id) {
            stream.deleted = true;
        }
        Ok(())
    }

    /// Returns bytes to the module in memory of its own. No bytes are a null pointer.
    fn give(&mut self, bytes: &[u8], pointer_to: u32, size_to: u32) -> Outcome {
        let size = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        let mut pointer = 0;
        if size > 0 {
            let allocate = self.guest.allocate.clone();
            pointer = allocate.call(&mut *self.caller, size).map_err(Failure::Trap)?;
            self.write(pointer, bytes)?;
            self.state().recorder.copied_in(bytes.len());
        }
        self.write(pointer_to, &pointer.to_le_bytes())?;
        self.write(size_to, &size.to_le_bytes())?;
        Ok(())
    }
}

/// Runs a host function unless a fault is due.
fn run(
    caller: &mut Caller<'_, State>,
    function: &'static str,
    body: impl FnOnce(&mut HostCall) -> Outcome,
) -> wasmtime::Result<u32> {
    run_on(caller, function, None, body)
}

/// The same for a function that works on a buffer.
fn run_on(
    caller: &mut Caller<'_, State>,
    function: &'static str,
    buffer: Option<BufferType>,
    body: impl FnOnce(&mut HostCall) -> Outcome,
) -> wasmtime::Result<u32> {
    if let Some(status) = caller.data_mut().recorder.host_call(function, buffer) {
        return Ok(status as u32);
    }
    let Some(guest) = caller.data().guest.clone() else {
        bail!("{function} was called before the module was instantiated");
    };
    match body(&mut HostCall { caller, guest }) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Failure::Status(status)) => Ok(status as u32),
        Err(Failure::Trap(trap)) => Err(trap),
    }
}

fn link_general(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ABI_MODULE,
        "proxy_log",
        |mut caller: Caller<'_, State>, level: u32, message: u32, size: u32| {
            run(&mut caller, "proxy_log", |call| {
                let message = call.read(message, size)?;
                Ok(call.state().log(level, &message)?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_log_level",
        |mut caller: Caller<'_, State>, level_to: u32| {
            run(&mut caller, "proxy_get_log_level", |call| {
                Ok(call.write(level_to, &0_u32.to_le_bytes())?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_current_time_nanoseconds",
        |mut caller: Caller<'_, State>, time_to: u32| {
            run(&mut caller, "proxy_get_current_time_nanoseconds", |call| {
                let state = call.state();
                let clock = state.now.saturating_sub(state.clock_set_back);
                let now = u64::try_from(clock.as_nanos()).map_err(|_| Status::InternalFailure)?;
                Ok(call.write(time_to, &now.to_le_bytes())?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_set_tick_period_milliseconds",
        |mut caller: Caller<'_, State>, period: u32| {
            run(&mut caller, "proxy_set_tick_period_milliseconds", |call| {
                let period = Duration::from_millis(period.into());
                call.state().set_tick_period(period);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_set_effective_context",
        |mut caller: Caller<'_, State>, context: u32| {
            run(&mut caller, "proxy_set_effective_context", |call| {
                Ok(call.state().set_effective_context(context)?)
            })
        },
    )?;
    // A stream's context goes when its stream goes, whatever `proxy_on_done` returned.
    linker.func_wrap(ABI_MODULE, "proxy_done", |mut caller: Caller<'_, State>| {
        run(&mut caller, "proxy_done", |_| Err(Status::NotFound.into()))
    })?;
    Ok(())
}

fn link_headers_and_bodies(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_header_map_pairs",
        |mut caller: Caller<'_, State>, map: u32, pointer_to: u32, size_to: u32| {
            run(&mut caller, "proxy_get_header_map_pairs", |call| {
                let map = map_type(map)?;
                let pairs = match call.state().readable_map(map) {
                    Some(headers) if !headers.is_empty() => headers.serialize(),
                    _ => Vec::new(),
                };
                call.give(&pairs, pointer_to, size_to)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_set_header_map_pairs",
        |mut caller: Caller<'_, State>, map: u32, pairs: u32, size: u32| {
            run(&mut caller, "proxy_set_header_map_pairs", |call| {
                let headers = call.read_map(pairs, size)?;
                *call.state().writable_map(map_type(map)?)? = headers;
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_header_map_value",
        |mut caller: Caller<'_, State>,
         map: u32,
         name: u32,
         name_size: u32,
         pointer_to: u32,
         size_to: u32| {
            run(&mut caller, "proxy_get_header_map_value", |call| {
                let name = call.read_text(name, name_size)?;
                let value = call.state().header(map_type(map)?, &name)?;
                call.give(&value, pointer_to, size_to)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_add_header_map_value",
        |mut caller: Caller<'_, State>,
         map: u32,
         name: u32,
         name_size: u32,
         value: u32,
         value_size: u32| {
            run(&mut caller, "proxy_add_header_map_value", |call| {
                let name = call.read_text(name, name_size)?;
                let value = call.read(value, value_size)?;
                call.state().writable_map(map_type(map)?)?.add(&name, value);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_replace_header_map_value",
        |mut caller: Caller<'_, State>,
         map: u32,
         name: u32,
         name_size: u32,
         value: u32,
         value_size: u32| {
            run(&mut caller, "proxy_replace_header_map_value", |call| {
                let name = call.read_text(name, name_size)?;
                let value = call.read(value, value_size)?;
                let headers = call.state().writable_map(map_type(map)?)?;
                headers.replace(&name, value);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_remove_header_map_value",
        |mut caller: Caller<'_, State>, map: u32, name: u32, name_size: u32| {
            run(&mut caller, "proxy_remove_header_map_value", |call| {
                let name = call.read_text(name, name_size)?;
                call.state().writable_map(map_type(map)?)?.remove(&name);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_buffer_bytes",
        |mut caller: Caller<'_, State>,
         buffer: u32,
         start: u32,
         length: u32,
         pointer_to: u32,
         size_to: u32| {
            let buffer = BufferType::from_abi(buffer);
            run_on(&mut caller, "proxy_get_buffer_bytes", buffer, |call| {
                let buffer = buffer.ok_or(Status::BadArgument)?;
                let bytes = call.state().readable_buffer(buffer)?;
                if start.checked_add(length).is_none() {
                    return Err(Status::BadArgument.into());
                }
                let bytes = half::slice(bytes, to_usize(start), to_usize(length)).to_vec();
                call.give(&bytes, pointer_to, size_to)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_set_buffer_bytes",
        |mut caller: Caller<'_, State>,
         buffer: u32,
         start: u32,
         length: u32,
         data: u32,
         size: u32| {
            let buffer = BufferType::from_abi(buffer);
            run_on(&mut caller, "proxy_set_buffer_bytes", buffer, |call| {
                let buffer = buffer.ok_or(Status::BadArgument)?;
                let data = call.read(data, size)?;
                let body = call.state().writable_buffer(buffer)?;
                half::replace(body, to_usize(start), to_usize(length), &data)?;
                call.end_if_overflowing()
            })
        },
    )?;
    Ok(())
}

fn link_streams_and_calls(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ABI_MODULE,
        "proxy_continue_stream",
        |mut caller: Caller<'_, State>, stream: u32| {
            run(&mut caller, "proxy_continue_stream", |call| {
                let direction = Direction::from_abi(stream).ok_or(Status::BadArgument)?;
                call.state().continue_stream(direction);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_close_stream",
        |mut caller: Caller<'_, State>, stream: u32| {
            run(&mut caller, "proxy_close_stream", |call| {
                Direction::from_abi(stream).ok_or(Status::BadArgument)?;
                call.state().close_stream();
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_send_local_response",
        |mut caller: Caller<'_, State>,
         status: u32,
         details: u32,
         details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         _grpc_status: i32| {
            run(&mut caller, "proxy_send_local_response", |call| {
                call.read(details, details_size)?;
                let body = call.read(body, body_size)?;
                let headers = call.read_map(headers, headers_size)?;
                call.state().send_local_response(status, &headers, body);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_http_call",
        |mut caller: Caller<'_, State>,
         cluster: u32,
         cluster_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         trailers: u32,
         trailers_size: u32,
         timeout: i32,
         token_to: u32| {
            run(&mut caller, "proxy_http_call", |call| {
                let cluster = call.read_text(cluster, cluster_size)?;
                let headers = call.read_map(headers, headers_size)?;
                let body = call.read(body, body_size)?;
                call.read(trailers, trailers_size)?;
                call.write(token_to, &0_u32.to_le_bytes())?;
                let timeout = u64::try_from(timeout).map_err(|_| Status::BadArgument)?;
                let timeout = Duration::from_millis(timeout);
                let token = call.state().http_call(cluster, headers, body, timeout)?;
                Ok(call.write(token_to, &token.to_le_bytes())?)
            })
        },
    )?;
    Ok(())
}

fn link_state_and_metrics(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_property",
        |mut caller: Caller<'_, State>, path: u32, size: u32, pointer_to: u32, size_to: u32| {
            run(&mut caller, "proxy_get_property", |call| {
                let path = call.read(path, size)?;
                let value = call.state().property(&path)?;
                call.give(&value, pointer_to, size_to)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_set_property",
        |mut caller: Caller<'_, State>, path: u32, size: u32, value: u32, value_size: u32| {
            run(&mut caller, "proxy_set_property", |call| {
                let path = call.read(path, size)?;
                let value = call.read(value, value_size)?;
                Ok(call.state().set_property(&path, value)?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_shared_data",
        |mut caller: Caller<'_, State>,
         key: u32,
         key_size: u32,
         pointer_to: u32,
         size_to: u32,
         cas_to: u32| {
            run(&mut caller, "proxy_get_shared_data", |call| {
                let key = call.read(key, key_size)?;
                let (value, cas) = call.state().shared_data(&key)?;
                call.give(&value, pointer_to, size_to)?;
                Ok(call.write(cas_to, &cas.to_le_bytes())?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_set_shared_data",
        |mut caller: Caller<'_, State>,
         key: u32,
         key_size: u32,
         value: u32,
         value_size: u32,
         cas: u32| {
            run(&mut caller, "proxy_set_shared_data", |call| {
                let key = call.read(key, key_size)?;
                let value = call.read(value, value_size)?;
                Ok(call.state().set_shared_data(key, value, cas)?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_register_shared_queue",
        |mut caller: Caller<'_, State>, name: u32, name_size: u32, token_to: u32| {
            run(&mut caller, "proxy_register_shared_queue", |call| {
                let name = call.read(name, name_size)?;
                let token = call.state().register_queue(name);
                Ok(call.write(token_to, &token.to_le_bytes())?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_enqueue_shared_queue",
        |mut caller: Caller<'_, State>, token: u32, value: u32, value_size: u32| {
            run(&mut caller, "proxy_enqueue_shared_queue", |call| {
                let value = call.read(value, value_size)?;
                Ok(call.state().enqueue(token, value)?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_dequeue_shared_queue",
        |mut caller: Caller<'_, State>, token: u32, pointer_to: u32, size_to: u32| {
            run(&mut caller, "proxy_dequeue_shared_queue", |call| {
                let value = call.state().dequeue(token)?;
                call.give(&value, pointer_to, size_to)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_define_metric",
        |mut caller: Caller<'_, State>, kind: u32, name: u32, name_size: u32, id_to: u32| {
            run(&mut caller, "proxy_define_metric", |call| {
                let name = call.read_text(name, name_size)?;
                let id = call.state().metrics.define(kind, name)?;
                Ok(call.write(id_to, &id.to_le_bytes())?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_increment_metric",
        |mut caller: Caller<'_, State>, id: u32, offset: i64| {
            run(&mut caller, "proxy_increment_metric", |call| {
                Ok(call.state().metrics.increment(id, offset)?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_record_metric",
        |mut caller: Caller<'_, State>, id: u32, value: u64| {
            run(&mut caller, "proxy_record_metric", |call| {
                Ok(call.state().metrics.record(id, value)?)
            })
        },
    )?;
    linker.func_wrap(
        ABI_MODULE,
        "proxy_get_metric",
        |mut caller: Caller<'_, State>, id: u32, value_to: u32| {
            run(&mut caller, "proxy_get_metric", |call| {
                let value = call.state().metrics.get(id)?;
                Ok(call.write(value_to, &value.to_le_bytes())?)
            })
        },
    )?;
    Ok(())
}

fn map_type(number: u32) -> Result<MapType, Status> {
    MapType::from_abi(number).ok_or(Status::BadArgument)
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("a host of 32 bits at least")
}
