//! The interpreter of steps: actors arrive, and each does its workload's steps.
