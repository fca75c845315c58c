//! An ONNX graph under construction, and its file, written tensor by tensor.

use std::borrow::Cow;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use bam_contract::fault::Fault;
use prost::{Message, encode_length_delimiter, length_delimiter_len};
use safetensors::{Dtype, SafeTensors};

use super::proto::{
    AttributeProto, AttributeType, Dimension, DimensionProto, FLOAT, GraphProto, INT64, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

/// The first with `LayerNormalization`; later ones bring a BERT nothing that ONNX Runtime runs faster.
const OPSET: i64 = 17;
/// The file format's version that came with that opset.
const IR_VERSION: i64 = 8;
/// Protobuf's limit on a message.
const LIMIT_BYTES: usize = i32::MAX as usize;

/// Nodes in order, and the tensors they read. Weights stay in the checkpoint until they are written.
pub(crate) struct Graph<'a> {
    checkpoint: &'a SafeTensors<'a>,
    proto: GraphProto,
    initializers: Vec<Initializer<'a>>,
}

struct Initializer<'a> {
    name: String,
    dims: Vec<usize>,
    data_type: i32,
    bytes: Cow<'a, [u8]>,
    /// Whether `bytes` holds float32 of shape `[dims[1], dims[0]]`.
    transposed: bool,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(name: &str, checkpoint: &'a SafeTensors<'a>) -> Self {
        let proto = GraphProto { name: name.to_owned(), ..GraphProto::default() };
        Self { checkpoint, proto, initializers: Vec::new() }
    }

    /// Adds a node with one output, which has the node's name; returns that name.
    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], name: impl Into<String>) -> String {
        self.node_with(op, inputs, name, Vec::new())
    }

    pub(crate) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        name: impl Into<String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let name = name.into();
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.to_owned(),
            attribute,
        });
        name
    }

    /// A tensor of the checkpoint, under its name.
    ///
    /// # Errors
    /// When there is none of that name, or it isn't float32 of that shape.
    pub(crate) fn weight(&mut self, name: &str, dims: &[usize]) -> Result<String> {
        let bytes = self.stored(name, dims)?;
        Ok(self.initializer(name, dims, FLOAT, Cow::Borrowed(bytes), false))
    }

    /// A matrix that the checkpoint holds as `[outputs, inputs]`, in the form that `MatMul` takes: `[inputs, outputs]`.
    pub(crate) fn transposed_weight(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<String> {
        let bytes = self.stored(name, &[outputs, inputs])?;
        Ok(self.initializer(name, &[inputs, outputs], FLOAT, Cow::Borrowed(bytes), true))
    }

    fn stored(&self, name: &str, dims: &[usize]) -> Result<&'a [u8]> {
        let tensor = self.checkpoint.tensor(name).map_err(|_| {
            let message = format!("the checkpoint has no tensor `{name}`");
            Fault::new(message, "`config.json` and `model.safetensors` must come from the same model")
        })?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape() == dims,
            Fault::new(
                format!(
                    "tensor `{name}` is {:?} of shape {:?}, where float32 of shape {dims:?} is needed",
                    tensor.dtype(),
                    tensor.shape()
                ),
                "`config.json` and `model.safetensors` must come from the same model, and its weights be float32"
            )
        );
        Ok(tensor.data())
    }

    pub(crate) fn scalar(&mut self, name: &str, value: f32) -> String {
        self.initializer(name, &[], FLOAT, Cow::Owned(value.to_le_bytes().to_vec()), false)
    }

    /// A vector of integers.
    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, &[values.len()], INT64, Cow::Owned(bytes), false)
    }

    fn initializer(
        &mut self,
        name: &str,
        dims: &[usize],
        data_type: i32,
        bytes: Cow<'a, [u8]>,
        transposed: bool,
    ) -> String {
        let known = self.initializers.iter().any(|initializer| initializer.name == name);
        if !known {
            self.initializers.push(Initializer {
                name: name.to_owned(),
                dims: dims.to_vec(),
                data_type,
                bytes,
                transposed,
            });
        }
        name.to_owned()
    }

    /// An int64 input of the graph, of shape [batch, length].
    pub(crate) fn input(&mut self, name: &str) {
        self.proto.input.push(value_info(name, INT64, &[named("batch"), named("length")]));
    }

    /// A float32 output of the graph, of shape [batch, `outputs`].
    pub(crate) fn output(&mut self, name: &str, outputs: usize) {
        self.proto.output.push(value_info(name, FLOAT, &[named("batch"), Dimension::Fixed(outputs as i64)]));
    }

    /// Says that a value in between is float32 of shape [batch, length, `width`].
    pub(crate) fn annotate(&mut self, name: &str, width: usize) {
        let dims = [named("batch"), named("length"), Dimension::Fixed(width as i64)];
        self.proto.value_info.push(value_info(name, FLOAT, &dims));
    }

    /// Writes the model's file. At any time it holds one tensor of the weights in memory, besides the mapped checkpoint.
    ///
    /// # Errors
    /// When the file would pass protobuf's limit of 2 GiB, or can't be written.
    pub(crate) fn write(&self, metadata: &[(&str, String)], out: &mut impl Write) -> Result<()> {
        let property =
            |(key, value): &(&str, String)| StringStringEntryProto { key: (*key).to_owned(), value: value.clone() };
        let head = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "bam".to_owned(),
            graph: None,
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPSET }],
            metadata_props: metadata.iter().map(property).collect(),
        };
        // A message is the concatenation of its fields, in any order; so the graph's tensors can follow one by one.
        let graph_bytes =
            self.proto.encoded_len() + self.initializers.iter().map(Initializer::field_len).sum::<usize>();
        let file_bytes = head.encoded_len() + 1 + length_delimiter_len(graph_bytes) + graph_bytes;
        ensure!(
            file_bytes <= LIMIT_BYTES,
            Fault::new(
                format!("the ONNX file would have {file_bytes} bytes; an ONNX file has at most 2 GiB"),
                "export a smaller model, or one with fewer layers"
            )
        );
        let mut bytes = head.encode_to_vec();
        bytes.push(GRAPH_FIELD);
        encode_length_delimiter(graph_bytes, &mut bytes)?;
        bytes.extend(self.proto.encode_to_vec());
        out.write_all(&bytes)?;
        for initializer in &self.initializers {
            let part = GraphProto { initializer: vec![initializer.tensor()], ..GraphProto::default() };
            out.write_all(&part.encode_to_vec()).with_context(|| format!("writing tensor `{}`", initializer.name))?;
        }
        Ok(())
    }
}

/// Key of the field `graph` in `ModelProto`: number 7, with a length before it.
const GRAPH_FIELD: u8 = (7 << 3) | 2;

impl Initializer<'_> {
    fn tensor(&self) -> TensorProto {
        let raw_data = if self.transposed { transpose(&self.bytes, self.dims[1]) } else { self.bytes.to_vec() };
        TensorProto { raw_data, ..self.header() }
    }

    fn header(&self) -> TensorProto {
        TensorProto {
            dims: self.dims.iter().map(|dim| *dim as i64).collect(),
            data_type: self.data_type,
            name: self.name.clone(),
            raw_data: Vec::new(),
        }
    }

    /// Bytes of the tensor as a field of the graph, without making it. All keys here are one byte long.
    fn field_len(&self) -> usize {
        let tensor = self.header().encoded_len() + 1 + length_delimiter_len(self.bytes.len()) + self.bytes.len();
        1 + length_delimiter_len(tensor) + tensor
    }
}

/// The transpose of a float32 matrix of so many rows.
fn transpose(bytes: &[u8], rows: usize) -> Vec<u8> {
    const WIDTH: usize = size_of::<f32>();
    let columns = bytes.len() / WIDTH / rows;
    let mut transposed = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * WIDTH;
            transposed.extend_from_slice(&bytes[at..at + WIDTH]);
        }
    }
    transposed
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.to_owned(), i: Some(value), r#type, ..AttributeProto::default() }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.to_owned(), ints: values.to_vec(), r#type, ..AttributeProto::default() }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    let r#type = AttributeType::Float as i32;
    AttributeProto { name: name.to_owned(), f: Some(value), r#type, ..AttributeProto::default() }
}

fn named(name: &str) -> Dimension {
    Dimension::Named(name.to_owned())
}

fn value_info(name: &str, elem_type: i32, dims: &[Dimension]) -> ValueInfoProto {
    let dim = dims.iter().map(|value| DimensionProto { value: Some(value.clone()) }).collect();
    let tensor_type = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
