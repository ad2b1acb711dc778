//! A simulated TCP network: streams with Linux's timers, event-driven, so that idle virtual time costs nothing.
