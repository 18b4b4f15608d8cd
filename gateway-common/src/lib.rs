//! The contract of the kernel programs and the agent.
#![no_std]
