//! The vSphere Web Services codec: bytes in, typed values out. It does no I/O and keeps no state.
//!
//! Each request is a function that returns the whole SOAP envelope; each reply has a function that reads it.
//! The calls are those of the vSphere API (`vim25`) and have the names of its reference, one file for each
//! managed object that serves them:
//!
//! | file | serves |
//! |---|---|
//! | `service` | `ServiceInstance`, `SessionManager` |
//! | `search` | `SearchIndex` |
//! | `authorization` | `AuthorizationManager` |
//! | `view` | `ViewManager`, `ContainerView` |
//! | `retrieve`, `page` | `PropertyCollector`, requests and replies |
//! | `ticket`, `reconfigure`, `power` | `VirtualMachine` |
//! | `task` | the tasks that some of its methods end with |
//! | `updates` | `PropertyCollector`, what has changed |
//! | `event` | `EventManager` |
//! | `envelope`, `error` | the frame around all of them |

mod authorization;
mod envelope;
mod error;
mod event;
mod page;
mod power;
mod reconfigure;
mod retrieve;
mod search;
mod service;
mod task;
mod ticket;
mod updates;
mod view;

pub use authorization::{has_user_privilege_on_entities, read_missing_privileges};
pub use envelope::SOAP_ACTION;
pub use error::{Fault, SoapError};
pub use event::log_user_event;
pub use page::{ObjectContent, Page, read_continued_page, read_page};
pub use power::{GuestRequest, PowerTask};
pub use reconfigure::{read_reconfigure_vm, reconfigure_vm};
pub use retrieve::{
    continue_retrieve_properties, retrieve_ancestors, retrieve_machines, retrieve_machines_in_view,
    retrieve_machines_of_host, retrieve_object, retrieve_view,
};
pub use search::{
    ManagedObject, find_by_inventory_path, find_by_uuid, read_find_by_inventory_path,
    read_find_by_uuid,
};
pub use service::{
    ServiceContent, current_time, login, logout, read_current_time, read_empty,
    read_service_content, retrieve_service_content,
};
pub use ticket::{Ticket, acquire_ticket, read_ticket};
pub use updates::{
    ObjectUpdate, UpdateKind, UpdateSet, create_filter, create_property_collector,
    destroy_property_collector, read_filter, read_property_collector, read_updates,
    wait_for_updates,
};
pub use view::{create_container_view, destroy_view, read_container_view};

#[cfg(test)]
mod tests;
