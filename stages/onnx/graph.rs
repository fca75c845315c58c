//! An ONNX graph under construction, and its file, written tensor by tensor.

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
use super::weight::{Form, Steps, Weight, scales};

/// The first with `Attention`; `Gelu` and `LayerNormalization` are older. All operators are the standard's own.
const OPSET: i64 = 23;
/// The file format's version that came with that opset.
const IR_VERSION: i64 = 11;
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
    data: Data<'a>,
}

enum Data<'a> {
    Own { data_type: i32, bytes: Vec<u8> },
    Stored(Weight<'a>),
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
        self.push(op, inputs, name.clone(), vec![name.clone()], attribute);
        name
    }

    /// Adds a node with several outputs, unless it is there already.
    pub(crate) fn node_of_many<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&str],
        name: &str,
        outputs: [&str; N],
    ) -> [String; N] {
        let outputs = outputs.map(|output| format!("{name}.{output}"));
        if !self.proto.node.iter().any(|node| node.name == name) {
            self.push(op, inputs, name.to_owned(), outputs.to_vec(), Vec::new());
        }
        outputs
    }

    fn push(&mut self, op: &str, inputs: &[&str], name: String, output: Vec<String>, attribute: Vec<AttributeProto>) {
        let input = inputs.iter().map(|input| (*input).to_owned()).collect();
        self.proto.node.push(NodeProto { input, output, name, op_type: op.to_owned(), attribute });
    }

    /// A tensor of the checkpoint, under its name.
    ///
    /// # Errors
    /// When there is none of that name, or it isn't float32 of that shape.
    pub(crate) fn weight(&mut self, name: &str, dims: &[usize]) -> Result<String> {
        self.table(name, dims, Form::Float32)
    }

    /// The same in another form.
    pub(crate) fn table(&mut self, name: &str, dims: &[usize], form: Form) -> Result<String> {
        let columns = dims.last().copied().unwrap_or(1);
        let weight = Weight::new(name, self.stored(name, dims)?, columns, form, false)?;
        Ok(self.initializer(name, dims, Data::Stored(weight)))
    }

    /// A matrix that the checkpoint holds as `[outputs, inputs]`, as products take it: `[inputs, outputs]`.
    pub(crate) fn matrix(&mut self, name: &str, inputs: usize, outputs: usize, form: Form) -> Result<String> {
        let weight = Weight::new(name, self.stored(name, &[outputs, inputs])?, inputs, form, true)?;
        Ok(self.initializer(name, &[inputs, outputs], Data::Stored(weight)))
    }

    /// The scales of a tensor's rows, which the checkpoint holds as `[rows, columns]`, in the shape `dims`.
    pub(crate) fn scales(
        &mut self,
        name: &str,
        rows_and_columns: [usize; 2],
        steps: Steps,
        dims: &[usize],
    ) -> Result<String> {
        let scales = scales(self.stored(name, &rows_and_columns)?, rows_and_columns[1], steps);
        let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        Ok(self.initializer(&format!("{name}.scale"), dims, Data::Own { data_type: FLOAT, bytes }))
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

    /// A vector of integers.
    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, &[values.len()], Data::Own { data_type: INT64, bytes })
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data: Data<'a>) -> String {
        let known = self.initializers.iter().any(|initializer| initializer.name == name);
        if !known {
            self.initializers.push(Initializer { name: name.to_owned(), dims: dims.to_vec(), data });
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
        let raw_data = match &self.data {
            Data::Own { bytes, .. } => bytes.clone(),
            Data::Stored(weight) => weight.to_bytes(),
        };
        TensorProto { raw_data, ..self.header() }
    }

    fn header(&self) -> TensorProto {
        TensorProto {
            dims: self.dims.iter().map(|dim| *dim as i64).collect(),
            data_type: match &self.data {
                Data::Own { data_type, .. } => *data_type,
                Data::Stored(weight) => weight.data_type(),
            },
            name: self.name.clone(),
            raw_data: Vec::new(),
        }
    }

    /// Bytes of the tensor as a field of the graph, without making it. All keys here are one byte long.
    fn field_len(&self) -> usize {
        let bytes = match &self.data {
            Data::Own { bytes, .. } => bytes.len(),
            Data::Stored(weight) => weight.len(),
        };
        let tensor = self.header().encoded_len() + 1 + length_delimiter_len(bytes) + bytes;
        1 + length_delimiter_len(tensor) + tensor
    }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.to_owned(), i: Some(value), r#type, ..AttributeProto::default() }
}

pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    let r#type = AttributeType::String as i32;
    AttributeProto { name: name.to_owned(), s: Some(value.to_owned()), r#type, ..AttributeProto::default() }
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
