//! The heap of the C library, told to stay small. Left alone it keeps a heap for each thread that ever allocated, and what a large answer of
//! EC2 or a list of a thousand links once took. A daemon on every node waits most of its time: memory matters, contention does not.

/// From this size on a buffer is the kernel's and goes back to it. That is the C library's own value, which it raises up to
/// 32 MiB with each larger buffer that is freed, unless it is set.
#[cfg(target_env = "gnu")]
const OWN_PAGES_FROM_BYTES: libc::c_int = 128 << 10;

/// To be called first of all. With another C library there is nothing to tell.
pub(crate) fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the process has one thread yet, and both settings only choose where later allocations come from. Should one be refused, memory
    // is what it would be without it.
    #[expect(unsafe_code, reason = "the C library is asked by a function of its own")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_FROM_BYTES);
    }
}
