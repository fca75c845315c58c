//! A tensor of the checkpoint, in the form that a graph holds it in.

use anyhow::{Result, ensure};
use bam_contract::fault::Fault;
use half::f16;

use super::proto::{FLOAT, FLOAT16, INT8};

/// How the elements of a float32 tensor are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Float32,
    Float16,
    /// Whole numbers, by a [`scale`] of each row.
    Int8(Steps),
}

/// The greatest whole number that stands for a weight; the least is as far from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Steps(f32);

impl Steps {
    /// For a matrix that is multiplied with unsigned bytes. Processors with AVX2, but without VNNI, add two such products
    /// in 16 bits and cut off what is beyond 32,767: 2 · 255 · 64 is not, 2 · 255 · 65 would be. So sums are exact
    /// everywhere, and the same.
    pub(crate) const MATRIX: Self = Self(64.0);
    /// For a table whose rows are looked up and multiplied with nothing but their scale.
    pub(crate) const TABLE: Self = Self(127.0);
}

#[derive(Debug)]
pub(super) struct Weight<'a> {
    /// float32, row by row.
    bytes: &'a [u8],
    /// Elements of a row.
    columns: usize,
    form: Form,
    /// Whether it is written column by column.
    transposed: bool,
}

impl<'a> Weight<'a> {
    /// # Errors
    /// When the form can't hold a value.
    pub(super) fn new(name: &str, bytes: &'a [u8], columns: usize, form: Form, transposed: bool) -> Result<Self> {
        let bound = match form {
            Form::Float32 => return Ok(Self { bytes, columns, form, transposed }),
            Form::Float16 => f16::MAX.to_f32(),
            Form::Int8(_) => f32::MAX,
        };
        ensure!(
            floats(bytes).all(|value| value.abs() <= bound),
            Fault::new(
                format!(
                    "tensor `{name}` holds values that {} can't",
                    if form == Form::Float16 { "fp16" } else { "int8" }
                ),
                "export it with `precision: fp32`"
            )
        );
        Ok(Self { bytes, columns, form, transposed })
    }

    pub(super) fn data_type(&self) -> i32 {
        match self.form {
            Form::Float32 => FLOAT,
            Form::Float16 => FLOAT16,
            Form::Int8(_) => INT8,
        }
    }

    /// Bytes that will be written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / size_of::<f32>() * self.element_len()
    }

    fn element_len(&self) -> usize {
        match self.form {
            Form::Float32 => size_of::<f32>(),
            Form::Float16 => size_of::<f16>(),
            Form::Int8(_) => 1,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bytes = match self.form {
            Form::Float32 => self.bytes.to_vec(),
            Form::Float16 => floats(self.bytes).flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
            Form::Int8(steps) => {
                rows(self.bytes, self.columns).flat_map(|row| quantized(&row, steps)).map(i8::cast_unsigned).collect()
            }
        };
        if self.transposed { transpose(&bytes, self.columns, self.element_len()) } else { bytes }
    }
}

/// The scale of each row of a float32 matrix.
pub(super) fn scales(bytes: &[u8], columns: usize, steps: Steps) -> Vec<f32> {
    rows(bytes, columns).map(|row| scale(&row, steps)).collect()
}

/// What one step stands for, so that the greatest weight of a row is `steps` of them.
fn scale(row: &[f32], Steps(steps): Steps) -> f32 {
    let scale = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / steps;
    // Nothing is lost of a row of zeros; and what is too small to be divided by is no weight.
    if scale.is_normal() { scale } else { 1.0 }
}

fn quantized(row: &[f32], steps: Steps) -> Vec<i8> {
    let scale = scale(row, steps);
    row.iter().map(|weight| (weight / scale).round() as i8).collect()
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn rows(bytes: &[u8], columns: usize) -> impl Iterator<Item = Vec<f32>> {
    bytes.chunks_exact(columns * size_of::<f32>()).map(|row| floats(row).collect())
}

/// The transpose of a matrix with rows of so many elements, each of `width` bytes.
fn transpose(bytes: &[u8], columns: usize, width: usize) -> Vec<u8> {
    let rows = bytes.len() / width / columns;
    let mut transposed = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * width;
            transposed.extend_from_slice(&bytes[at..at + width]);
        }
    }
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    proptest! {
        #[test]
        fn a_quantized_row_is_within_half_a_step_of_itself(
            row in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..64),
            of_matrix: bool,
        ) {
            let steps = if of_matrix { Steps::MATRIX } else { Steps::TABLE };
            let scale = scale(&row, steps);
            let quantized = quantized(&row, steps);
            for (weight, step) in row.iter().zip(&quantized) {
                let difference = (f64::from(*weight) - f64::from(*step) * f64::from(scale)).abs();
                prop_assert!(difference <= f64::from(scale) * 0.500_1, "{} is not {} · {}", weight, step, scale);
                prop_assert!(f32::from(*step).abs() <= steps.0);
            }
            // All steps are made use of, whatever the row's range.
            let most = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
            if (most / steps.0).is_normal() {
                prop_assert!(quantized.iter().any(|step| f32::from(*step).abs() == steps.0));
            }
        }

        #[test]
        fn what_is_written_is_the_transpose_and_as_long_as_said(rows in 1_usize..6, columns in 1_usize..6, form in 0_usize..3) {
            // Small whole numbers are exact in every form; each row's greatest is the number of steps.
            let value = |row: usize, column: usize| if column == 0 { 64.0 } else { (row * columns + column) as f32 };
            let values: Vec<f32> = (0..rows).flat_map(|row| (0..columns).map(move |column| value(row, column))).collect();
            let bytes = bytes(&values);
            let form = [Form::Float32, Form::Float16, Form::Int8(Steps::MATRIX)][form];
            let [plain, transposed] =
                [false, true].map(|transposed| Weight::new("w", &bytes, columns, form, transposed).unwrap());
            prop_assert_eq!(plain.to_bytes().len(), plain.len());
            let element = |bytes: &[u8], at: usize| match form {
                Form::Float32 => floats(bytes).nth(at).unwrap(),
                Form::Float16 => f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32(),
                Form::Int8(_) => f32::from(bytes[at].cast_signed()),
            };
            for row in 0..rows {
                for column in 0..columns {
                    let expected = value(row, column);
                    prop_assert_eq!(element(&plain.to_bytes(), row * columns + column), expected);
                    prop_assert_eq!(element(&transposed.to_bytes(), column * rows + row), expected);
                }
            }
        }
    }

    #[test]
    fn rows_without_a_range_are_zeros() {
        for row in [[0.0, 0.0], [f32::MIN_POSITIVE, -f32::MIN_POSITIVE]] {
            assert_eq!((scale(&row, Steps::MATRIX), quantized(&row, Steps::MATRIX)), (1.0, vec![0, 0]));
        }
    }

    #[test]
    fn what_a_form_cannot_hold_is_refused() {
        let bytes = bytes(&[1.0, 70_000.0]);
        let error = Weight::new("w", &bytes, 2, Form::Float16, false).unwrap_err();
        assert_eq!(error.to_string(), "tensor `w` holds values that fp16 can't");
        Weight::new("w", &bytes, 2, Form::Int8(Steps::TABLE), false).unwrap();
        let bytes = self::bytes(&[f32::NAN]);
        assert!(Weight::new("w", &bytes, 1, Form::Int8(Steps::TABLE), false).is_err());
        Weight::new("w", &bytes, 1, Form::Float32, false).unwrap();
    }
}
