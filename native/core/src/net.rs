//! The few system calls that the threads need.
