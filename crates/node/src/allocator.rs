//! What the C library's allocator keeps for itself.

/// Gives the pages that are free inside the heap back to the system. glibc gives back by itself only
/// what is free at the heap's end: what a flush lays between longer-lived things stays, and the heap
/// of a node that is never idle grows for hours by what it does not use. Takes milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            /// `malloc.h`; the argument is the room to keep at the heap's end, in bytes.
            safe fn malloc_trim(pad: usize) -> core::ffi::c_int;
        }
        // Whether there was anything to give back does not matter.
        let _ = malloc_trim(0);
    }
}
