//! The numbers of the proxy-wasm 0.2.1 ABI.

/// The result of a host function.
///
/// Any call may return any of these to a filter, so tests inject every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such thing: header, property, metric, foreign function.
    NotFound = 1,
    /// The call is not possible now: a map or buffer of another callback, an unknown cluster.
    BadArgument = 2,
    /// A value could not be written out.
    SerializationFailure = 3,
    /// A value could not be read.
    ParseFailure = 4,
    /// An expression could not be read.
    BadExpression = 5,
    /// A pointer outside of the module's memory.
    InvalidMemoryAccess = 6,
    /// A queue holds nothing.
    Empty = 7,
    /// Shared data changed since it was read.
    CasMismatch = 8,
    /// A result of another type than expected.
    ResultMismatch = 9,
    /// The host failed: an upstream without a healthy host, for one.
    InternalFailure = 10,
    /// The connection is gone.
    BrokenConnection = 11,
    /// The host has no such function.
    Unimplemented = 12,
}

impl Status {
    /// Every way to fail.
    pub const FAILURES: [Self; 12] = [
        Self::NotFound,
        Self::BadArgument,
        Self::SerializationFailure,
        Self::ParseFailure,
        Self::BadExpression,
        Self::InvalidMemoryAccess,
        Self::Empty,
        Self::CasMismatch,
        Self::ResultMismatch,
        Self::InternalFailure,
        Self::BrokenConnection,
        Self::Unimplemented,
    ];
}

/// A buffer that a host function reads or changes. Those of TCP filters and of gRPC are left out:
/// for this host they do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferType {
    /// Bytes from the client on their way to the upstream.
    HttpRequestBody,
    /// Bytes from the upstream on their way to the client.
    HttpResponseBody,
    /// The body that answers `proxy_http_call`.
    HttpCallResponseBody,
    /// The VM's own configuration, which this host leaves empty.
    VmConfiguration,
    /// The filter's configuration, readable in `proxy_on_configure`.
    PluginConfiguration,
}

impl BufferType {
    pub(crate) const fn from_abi(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::HttpRequestBody),
            1 => Some(Self::HttpResponseBody),
            4 => Some(Self::HttpCallResponseBody),
            6 => Some(Self::VmConfiguration),
            7 => Some(Self::PluginConfiguration),
            _ => None,
        }
    }
}

/// A header map that a host function reads or changes. Trailers and gRPC metadata are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapType {
    Request,
    Response,
    CallResponse,
}

impl MapType {
    pub(crate) const fn from_abi(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Request),
            2 => Some(Self::Response),
            6 => Some(Self::CallResponse),
            _ => None,
        }
    }
}

/// The two ways that bytes go through an HTTP filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}

impl Direction {
    pub(crate) const fn from_abi(stream_type: u32) -> Option<Self> {
        match stream_type {
            0 => Some(Self::Request),
            1 => Some(Self::Response),
            _ => None,
        }
    }
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Ordinary events.
    Info,
    /// Something an operator may want to know.
    Warn,
    /// Something an operator must know.
    Error,
    /// The filter cannot go on.
    Critical,
}

impl LogLevel {
    pub(crate) const fn from_abi(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Trace),
            1 => Some(Self::Debug),
            2 => Some(Self::Info),
            3 => Some(Self::Warn),
            4 => Some(Self::Error),
            5 => Some(Self::Critical),
            _ => None,
        }
    }
}
