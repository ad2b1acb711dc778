//! Seeded entropy under `getrandom`, and the world's named random streams.
//!
//! `HashMap`'s keys, `rand::rng()` and SCRAM nonces come from the operating system's entropy. On the thread of a run the
//! functions that give it are overridden with a stream of the run's seed; on every other thread they ask the C library.
//!
//! A part of the world that needs randomness takes a [`stream`] under its own name: what one part draws never moves
//! another's.
//!
//! Written for Linux (`getrandom(2)`, `getentropy(3)`) and macOS (`getentropy(2)`, `CCRandomGenerateBytes`); tested on
//! Linux x86-64. Reading `/dev/urandom` or the processor's own generator is not covered.
#![expect(unsafe_code, reason = "overrides functions of the C library")]

use std::cell::RefCell;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

thread_local! {
    static ENTROPY: RefCell<Option<ChaCha8Rng>> = const { RefCell::new(None) };
}

/// The random stream of this name, for this seed. Equal names give equal streams.
#[must_use]
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    // FNV-1a: a fixed function of the name, on every platform and in every version.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    key[16..].copy_from_slice(b"poolproof stream");
    ChaCha8Rng::from_seed(key)
}

/// Seeded entropy on this thread, from now until it is dropped.
pub(crate) struct Guard(());

impl Guard {
    /// To be called on a fresh thread: the keys of std's hash maps are drawn once a thread.
    pub(crate) fn enter(seed: u64) -> Guard {
        ENTROPY.with_borrow_mut(|entropy| *entropy = Some(stream(seed, "entropy")));
        Guard(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        ENTROPY.with_borrow_mut(|entropy| *entropy = None);
    }
}

/// Fills the bytes from the run's entropy; false on a thread outside a run.
fn fill(bytes: &mut [u8]) -> bool {
    ENTROPY
        .try_with(|cell| match cell.try_borrow_mut() {
            Ok(mut entropy) => match entropy.as_mut() {
                Some(generator) => {
                    generator.fill_bytes(bytes);
                    true
                }
                None => false,
            },
            Err(_) => false,
        })
        .unwrap_or(false)
}

/// The C library's own function of this name, behind this program's definition.
fn next(name: &std::ffi::CStr) -> Option<std::ptr::NonNull<libc::c_void>> {
    // SAFETY: the name is a C string.
    std::ptr::NonNull::new(unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) })
}

/// `getrandom(2)`: seeded on the thread of a run, the kernel's elsewhere.
///
/// # Safety
/// As the C function: `buffer` points to `length` writable bytes.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, length: usize, flags: libc::c_uint) -> libc::ssize_t {
    if length == 0 || buffer.is_null() {
        // SAFETY: the kernel checks the arguments.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as libc::ssize_t };
    }
    // SAFETY: the caller's promise.
    if fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) }) {
        return length as libc::ssize_t;
    }
    // SAFETY: the caller's promise is passed on. The system call sets errno as the C function does.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as libc::ssize_t }
}

/// `getentropy(3)`: seeded on the thread of a run, the system's elsewhere.
///
/// # Safety
/// As the C function: `buffer` points to `length` writable bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn getentropy(buffer: *mut libc::c_void, length: usize) -> libc::c_int {
    type GetEntropy = unsafe extern "C" fn(*mut libc::c_void, usize) -> libc::c_int;
    // SAFETY: the caller's promise.
    if length > 0 && !buffer.is_null() && fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) }) {
        return 0;
    }
    match next(c"getentropy") {
        // SAFETY: the symbol has this signature; the caller's promise is passed on.
        Some(function) => unsafe {
            std::mem::transmute::<*mut libc::c_void, GetEntropy>(function.as_ptr())(buffer, length)
        },
        None => -1,
    }
}

/// `CCRandomGenerateBytes(3cc)`: what std asks on macOS.
///
/// # Safety
/// As the C function: `buffer` points to `length` writable bytes.
#[cfg(target_os = "macos")]
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(non_snake_case, reason = "the name is the system's")]
pub unsafe extern "C" fn CCRandomGenerateBytes(buffer: *mut libc::c_void, length: usize) -> i32 {
    type Generate = unsafe extern "C" fn(*mut libc::c_void, usize) -> i32;
    // SAFETY: the caller's promise.
    if length > 0 && !buffer.is_null() && fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) }) {
        return 0;
    }
    match next(c"CCRandomGenerateBytes") {
        // SAFETY: the symbol has this signature; the caller's promise is passed on.
        Some(function) => unsafe {
            std::mem::transmute::<*mut libc::c_void, Generate>(function.as_ptr())(buffer, length)
        },
        None => -1,
    }
}
