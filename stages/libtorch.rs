//! Operations of libtorch that `tch` has no binding of: over lists of tensors, where a GPU would wait for one small
//! operation after the other, and attention over rows that lie end to end.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn bam_pinned(tensor: *const C_tensor, pinned: *mut *mut C_tensor) -> *mut c_char;
    fn bam_copy_all(into: *const *const C_tensor, from: *const *const C_tensor, count: usize) -> *mut c_char;
    fn bam_norms(tensors: *const *const C_tensor, count: usize, norms: *mut *mut C_tensor) -> *mut c_char;
    fn bam_adamw(
        weights: *const *const C_tensor,
        gradients: *const *const C_tensor,
        firsts: *const *const C_tensor,
        seconds: *const *const C_tensor,
        count: usize,
        steps: *const C_tensor,
        learning_rate: f64,
        beta_1: f64,
        beta_2: f64,
        weight_decay: f64,
        epsilon: f64,
        gradient_divisor: *const C_tensor,
    ) -> *mut c_char;
    fn bam_attention(
        query: *const C_tensor,
        key: *const C_tensor,
        value: *const C_tensor,
        query_starts: *const C_tensor,
        key_starts: *const C_tensor,
        longest_query: i64,
        longest_key: i64,
        dropout: f64,
        attended: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// A copy in memory that the system doesn't move, which a GPU reads by itself. (`tch`'s binding names a device, which libtorch
/// complains of.)
pub(crate) fn pinned(tensor: &Tensor) -> Tensor {
    let mut pinned = null_mut();
    // SAFETY: a live tensor, and room for the pointer to a new one.
    unsafe {
        done(bam_pinned(tensor.as_ptr(), &raw mut pinned));
        Tensor::from_ptr(pinned)
    }
}

/// Copies tensors into others of the same shapes, whatever their formats.
pub(crate) fn copy_all(into: &[&Tensor], from: &[&Tensor]) {
    assert_eq!(into.len(), from.len());
    if into.is_empty() {
        return;
    }
    // SAFETY: both lists hold that many live tensors. What is written to is the tensors' data, as by `copy_`, which tch's
    // own bindings write through a shared pointer too; without autograd, which wants leaves left as they are.
    tch::no_grad(|| unsafe { done(bam_copy_all(pointers(into).as_ptr(), pointers(from).as_ptr(), into.len())) });
}

/// The tensors in fp32; those that are stay as they are.
pub(crate) fn in_fp32(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let is_other = |tensor: &Tensor| tensor.kind() != Kind::Float;
    let fresh: Vec<Option<Tensor>> = tensors
        .iter()
        .map(|tensor| is_other(tensor).then(|| Tensor::empty(tensor.size(), (Kind::Float, tensor.device()))))
        .collect();
    let others: Vec<&Tensor> = tensors.iter().filter(|tensor| is_other(tensor)).collect();
    copy_all(&fresh.iter().flatten().collect::<Vec<_>>(), &others);
    fresh.into_iter().zip(tensors).map(|(fresh, tensor)| fresh.unwrap_or_else(|| tensor.contiguous())).collect()
}

/// L2 norm of all the tensors' elements, without dimensions.
pub(crate) fn norm(tensors: &[&Tensor]) -> Tensor {
    let mut norms = vec![null_mut(); tensors.len()];
    // SAFETY: live tensors, and room for as many pointers; each becomes the only owner of a new tensor.
    let norms: Vec<Tensor> = unsafe {
        done(bam_norms(pointers(tensors).as_ptr(), tensors.len(), norms.as_mut_ptr()));
        norms.into_iter().map(|norm| Tensor::from_ptr(norm)).collect()
    };
    Tensor::stack(&norms, 0).norm()
}

/// Weights that are updated alike, all in fp32, contiguous and on one device.
#[derive(Debug, Default)]
pub(crate) struct Leaves<'a> {
    pub(crate) weights: Vec<&'a Tensor>,
    pub(crate) gradients: Vec<&'a Tensor>,
    pub(crate) firsts: Vec<&'a Tensor>,
    pub(crate) seconds: Vec<&'a Tensor>,
}

/// The numbers of one update of them.
#[derive(Debug)]
pub(crate) struct AdamW<'a> {
    /// Updates so far, this one among them; fp32, without dimensions.
    pub(crate) steps: &'a Tensor,
    pub(crate) learning_rate: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) weight_decay: f64,
    pub(crate) epsilon: f64,
    /// What gradients are divided by first; fp32, without dimensions.
    pub(crate) gradient_divisor: &'a Tensor,
}

impl AdamW<'_> {
    /// One update, bias correction included. The gradients are divided in place.
    pub(crate) fn update(&self, leaves: &Leaves<'_>) {
        let Leaves { weights, gradients, firsts, seconds } = leaves;
        assert!([gradients.len(), firsts.len(), seconds.len()].iter().all(|count| *count == weights.len()));
        let Self { steps, learning_rate, betas: [beta_1, beta_2], weight_decay, epsilon, gradient_divisor } = *self;
        // SAFETY: four lists of as many live tensors; written to as by `copy_all`.
        tch::no_grad(|| unsafe {
            done(bam_adamw(
                pointers(weights).as_ptr(),
                pointers(gradients).as_ptr(),
                pointers(firsts).as_ptr(),
                pointers(seconds).as_ptr(),
                weights.len(),
                steps.as_ptr(),
                learning_rate,
                beta_1,
                beta_2,
                weight_decay,
                epsilon,
                gradient_divisor.as_ptr(),
            ));
        });
    }
}

/// Where each of B rows begins in what lies end to end, and where the last one ends: [B + 1], 32 bits.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) starts: &'a Tensor,
    pub(crate) longest: i64,
}

/// Whether [`attention`] runs on a GPU: those of Ampere and later have the kernel. Asked once, of the one device that a stage has.
pub(crate) fn has_attention(gpu: Device) -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let part = Tensor::zeros([1, 1, 8], (Kind::BFloat16, gpu));
        let row = Ends { starts: &Tensor::arange(2, (Kind::Int, gpu)), longest: 1 };
        try_attention([&part; 3], &row, &row, 0.0).is_ok()
    })
}

/// softmax(Q K^T / sqrt(E)) V within rows that lie end to end, weights dropped with that probability: queries [Q, H, E], keys and
/// values [T, H, E], in bf16 on a GPU.
pub(crate) fn attention(
    [query_qhe, key_the, value_the]: [&Tensor; 3],
    queries: &Ends<'_>,
    keys: &Ends<'_>,
    dropout: f64,
) -> Tensor {
    try_attention([query_qhe, key_the, value_the], queries, keys, dropout)
        .unwrap_or_else(|error| panic!("libtorch: {error}"))
}

fn try_attention(
    [query_qhe, key_the, value_the]: [&Tensor; 3],
    queries: &Ends<'_>,
    keys: &Ends<'_>,
    dropout: f64,
) -> Result<Tensor, String> {
    let mut attended = null_mut();
    // SAFETY: live tensors, and room for the pointer to a new one.
    unsafe {
        said(bam_attention(
            query_qhe.as_ptr(),
            key_the.as_ptr(),
            value_the.as_ptr(),
            queries.starts.as_ptr(),
            keys.starts.as_ptr(),
            queries.longest,
            keys.longest,
            dropout,
            &raw mut attended,
        ))?;
        Ok(Tensor::from_ptr(attended))
    }
}

fn pointers(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}

/// Panics with what libtorch says, as tch's own operations do.
///
/// # Safety
/// As of [`said`].
unsafe fn done(message: *mut c_char) {
    // SAFETY: as promised.
    if let Err(error) = unsafe { said(message) } {
        panic!("libtorch: {error}");
    }
}

/// What libtorch says went wrong, if anything did.
///
/// # Safety
/// The message must be null, or a text of its own that was taken from `malloc`.
unsafe fn said(message: *mut c_char) -> Result<(), String> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: as promised.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        Err(text)
    }
}
