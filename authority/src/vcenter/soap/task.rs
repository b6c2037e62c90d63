//! `Task`: the methods whose names end with `_Task` answer with one, and end later.

use super::envelope::{read, required};
use super::error::SoapError;

/// Reads the reply to a `_Task` method, whose `response` is the method's name with `Response`: the task's identifier.
pub(super) fn read_task(reply: &[u8], response: &'static str) -> Result<String, SoapError> {
    read(reply, response, |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        cursor.text(&value)
    })
}
