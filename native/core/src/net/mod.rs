//! The few system calls that the threads need. `unsafe` is here and nowhere else in the engine.

mod own;
mod poll;
mod thread;
mod udp;

pub use own::OwnPorts;
pub use poll::{Epoll, EventFd, wait_until};
pub use thread::{become_realtime, sharpen_timers};
pub use udp::Udp;
