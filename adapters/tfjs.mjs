#!/usr/bin/env node
// TensorFlow.js, as the suite asks it: its packages are those of the folder in which this is run.
// Each layer is an expression in the calls of TensorFlow.js, which is run and shown as it is.

import { createRequire } from "node:module";

import { serve, Unsupported } from "./foreign.mjs";

const require = createRequire(`${process.cwd()}/`);
const tf = require("@tensorflow/tfjs");
const imports = ['const tf = require("@tensorflow/tfjs");'];
let backend = "cpu";

const text = JSON.stringify;
const zero = ([before, after]) => before === 0 && after === 0;
const one = (size) => size === 1;

/** The padding in TensorFlow's words: a word, a number, or pairs with those of batch and channels. */
function padding({ padding: pads, ceil_mode: ceil }) {
  if (pads === "same") {
    return "same";
  }
  if (typeof pads === "string") {
    throw new Unsupported(`there is no padding ${pads}`);
  }
  if (pads.every(zero)) {
    return ceil ? 0 : "valid"; // rounding is told for numbers alone
  }
  if (pads.length === 1) {
    return [[0, 0], [0, 0], ...pads, [0, 0]]; // a number would pad the axis that tf adds, too
  }
  if (pads.flat().every((size) => size === pads[0][0])) {
    return pads[0][0];
  }
  if (pads.length === 3) {
    throw new Unsupported("over three axes, one padding is for all sides");
  }
  return [[0, 0], ...pads, [0, 0]];
}

/** The padding of a layer of `tf.layers`, which knows the words alone. */
function word(layer) {
  const found = padding(layer);
  if (typeof found !== "string") {
    throw new Unsupported("tf.layers has no padding of numbers, and rounds down");
  }
  return found;
}

/** TensorFlow documents that of strides and dilations one kind is 1. */
function strideless({ stride, dilation }) {
  if (!stride.every(one) && !dilation.every(one)) {
    throw new Unsupported("either strides or dilations are 1");
  }
}

function undilated({ dilation }, where) {
  if (!dilation.every(one)) {
    throw new Unsupported(`${where} has no dilation`);
  }
}

function uncounted({ count_include_pad: counts, padding: pads }) {
  if (counts && !(Array.isArray(pads) && pads.every(zero))) {
    throw new Unsupported("an average does not count padding");
  }
}

/** A pooling: of `tf`, and over one axis of `tf.layers`. */
function pool(kind, layer) {
  const { window, stride, dilation } = layer;
  const rank = window.length;
  uncounted(layer);
  strideless(layer);
  if (rank === 1) {
    return `${described(layer)}.apply(x)`;
  }
  const pads = text(padding(layer));
  const rounding = layer.ceil_mode ? ', "ceil"' : "";
  if (rank === 2 && !dilation.every(one)) {
    const rest = `${pads}, ${text(dilation)}, ${text(stride)}${rounding}`;
    return `tf.pool(x, ${text(window)}, ${text(kind)}, ${rest})`;
  }
  undilated(layer, "a pooling over three axes");
  if (kind === "avg" && backend === "wasm") {
    throw new Unsupported("WebAssembly has no average over three axes");
  }
  const name = `tf.${kind}Pool${rank === 3 ? "3d" : ""}`;
  return `${name}(x, ${text(window)}, ${text(stride)}, ${pads}${rounding})`;
}

function convolution(layer) {
  const { window, stride, dilation, groups } = layer;
  const rank = window.length;
  const multiple = layer.out_channels / groups;
  const depthwise = groups > 1 && groups === layer.in_channels && rank === 2;
  strideless(layer);
  if (groups !== 1 && !(depthwise && Number.isInteger(multiple))) {
    throw new Unsupported("groups are all channels, over two axes, or one");
  }
  const pads = padding(layer);
  if (rank === 3 && typeof pads !== "string") {
    throw new Unsupported("over three axes, a convolution pads by words");
  }
  const plain = (sizes) => text(rank === 1 ? sizes[0] : sizes);
  const format = text(`N${"DHW".slice(3 - rank)}C`);
  const rest = `${plain(stride)}, ${text(pads)}, ${format}, ${plain(dilation)}`;
  let call = `tf.conv${rank}d(x, weight, ${rest})`;
  if (depthwise) {
    const shape = text([...window, groups, multiple]);
    call = `tf.depthwiseConv2d(x, tf.reshape(weight, ${shape}), ${rest})`;
  }
  return layer.bias ? `tf.add(${call}, bias)` : call;
}

/** A global pooling: of `tf.layers`, which has none over three axes. */
function whole(reduction, layer) {
  return layer.rank === 3 ? `tf.${reduction}(x, [1, 2, 3])` : `${described(layer)}.apply(x)`;
}

/** The layer of `tf.layers`, which knows its parameters and the shape of its output. */
function described(layer) {
  const { type, window, stride, dilation, rank, start } = layer;
  const d = `${window?.length ?? rank}d`;
  switch (type) {
    case "MaxPool":
    case "AveragePool": {
      uncounted(layer);
      undilated(layer, "a pooling of tf.layers");
      const options = { poolSize: window, strides: stride, padding: word(layer) };
      return `tf.layers.${type === "MaxPool" ? "max" : "average"}Pooling${d}(${text(options)})`;
    }
    case "GlobalMaxPool":
    case "GlobalAveragePool":
      if (rank > 2) {
        throw new Unsupported("tf.layers has no global pooling over three axes");
      }
      return `tf.layers.${type === "GlobalMaxPool" ? "globalMax" : "globalAverage"}Pooling${d}({})`;
    case "Conv": {
      if (layer.groups !== 1) {
        throw new Unsupported("tf.layers has no groups");
      }
      const options = {
        filters: layer.out_channels, kernelSize: window, strides: stride, padding: word(layer),
        dilationRate: dilation, useBias: layer.bias,
      };
      return `tf.layers.conv${d}(${text(options)})`;
    }
    case "ReLU":
      return "tf.layers.reLU()";
    case "Flatten":
      if (start !== 1) {
        throw new Unsupported("tf.layers flattens from axis 1");
      }
      return "tf.layers.flatten()";
    case "Dense":
      return `tf.layers.dense(${text({ units: layer.out_features, useBias: layer.bias })})`;
  }
  throw new Unsupported(`tf.layers has no ${type}`);
}

const CALLS = {
  MaxPool: (layer) => pool("max", layer),
  AveragePool: (layer) => pool("avg", layer),
  GlobalAveragePool: (layer) => whole("mean", layer),
  GlobalMaxPool: (layer) => whole("max", layer),
  Conv: convolution,
  ReLU: () => "tf.relu(x)",
  Flatten: (layer) => `${described(layer)}.apply(x)`,
  Dense: ({ bias }) => (bias ? "tf.add(tf.matMul(x, weight), bias)" : "tf.matMul(x, weight)"),
};

const SELECTIONS = ["MaxPool", "GlobalMaxPool", "ReLU", "Flatten"];

/** The dtypes of each layer type: integers are selected and not summed. */
function dtypes(type) {
  const integers = SELECTIONS.includes(type) && !(type === "MaxPool" && backend === "wasm");
  return integers ? ["float32", "int32"] : ["float32"];
}

const tensor = ({ dtype, shape, values }) => tf.tensor(values, shape, dtype);

function array(y) {
  const { dtype, shape } = y;
  if (!shape.every((size) => size >= 0)) {
    throw new RangeError(`the result has shape ${shape}`); // which no array has
  }
  return { dtype, shape, values: y.dataSync() };
}

/** What an expression gives, of tensors that are freed; a kernel that is lacking is unsupported. */
function evaluated(source, names) {
  tf.engine().startScope();
  try {
    const found = new Function("tf", ...Object.keys(names), `return ${source};`);
    return [found(tf, ...Object.values(names))].flat().map(array);
  } catch (error) {
    if (/^Kernel '\w+' not registered/.test(error.message)) {
      throw new Unsupported(error.message);
    }
    throw error;
  } finally {
    tf.engine().endScope();
  }
}

/** The tensors of a request by the names that expressions have for them. */
function named({ weights, arrays }, ...last) {
  return Object.fromEntries([...weights, ...last].map((name, i) => [name, tensor(arrays[i])]));
}

const forward = ({ layer }) => CALLS[layer.type](layer);

function backward({ layer, weights }) {
  if (layer.type === "Conv") {
    undilated(layer, "the gradient of a convolution");
  }
  const held = ["x", ...weights].join(", ");
  return `tf.grads((${held}) => ${CALLS[layer.type](layer)})([${held}], upstream)`;
}

function run(request) {
  const { type, rank } = request.layer;
  const reduced = type.startsWith("Global") && rank === 3;
  const arrays = evaluated(forward(request), named(request, "x"));
  return { arrays, composed: reduced ? "a reduction over the spatial axes" : "" };
}

function gradients(request) {
  return { arrays: evaluated(backward(request), named(request, "x", "upstream")) };
}

/** A layer of `tf.layers` that has its weights. */
function built(layer) {
  const made = new Function("tf", `return ${described(layer)};`)(tf);
  const { window = [], rank = window.length, in_channels, in_features = in_channels ?? 1 } = layer;
  made.build([null, ...Array(rank).fill(null), in_features]);
  return made;
}

const parameters = ({ layer }) => ({ count: built(layer).countParams() });

function output_shape({ layer, shape }) {
  const made = new Function("tf", `return ${described(layer)};`)(tf);
  const sizes = made.computeOutputShape(shape);
  return { shape: sizes.map((size) => (Number.isInteger(size) ? size : -1)) }; // null, or NaN
}

/** Python source that runs an expression by a Node of its own. */
function script({ call, layer }) {
  if (!["forward", "gradients"].includes(call)) {
    throw new Unsupported(`there is no script of ${call}`);
  }
  const weights = "in_channels" in layer || "in_features" in layer ? ["weight"] : [];
  const names = [...weights, ...(weights.length && layer.bias ? ["bias"] : [])];
  const back = call === "gradients";
  const source = back ? backward({ layer, weights: names }) : forward({ layer });
  const given = ["x", ...names, ...(back ? ["upstream"] : [])].join(", ");
  const set = back
    ? 'gradients = dict(zip(["input", *weights], found))'
    : "y = found[0]";
  return { script: `\
# in the folder where npm has installed it, or with NODE_PATH
import base64, json, subprocess

program = r"""
${imports.join("\n")}
const kinds = { float32: Float32Array, int32: Int32Array };
const given = JSON.parse(require("fs").readFileSync(0));
const [${given}] = ${text(given.split(", "))}.map((name) => {
  const { dtype, shape, data } = given[name];
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return () => tf.tensor(new kinds[dtype](bytes.buffer), shape, dtype);
});
tf.setBackend("${backend}").then(() => run(${given.split(", ").map((name) => `${name}()`).join(", ")}));
function run(${given}) {
  const found = [
    ${source},
  ].flat();
  const told = found.map((y) => ({
    dtype: y.dtype, shape: y.shape, data: Buffer.from(y.dataSync().buffer).toString("base64"),
  }));
  console.error("TensorFlow.js", tf.version_core);
  process.stdout.write(JSON.stringify(told));
}
"""
def given(array):
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}
def read(array):
    return np.frombuffer(base64.b64decode(array["data"]), array["dtype"]).reshape(array["shape"])
arrays = {"x": x, **weights${back ? ', "upstream": upstream' : ""}}
sent = json.dumps({name: given(array) for name, array in arrays.items()})
run = subprocess.run(["node", "-e", program], input=sent, stdout=-1, text=True, check=True)
found = [read(array) for array in json.loads(run.stdout)]
${set}
` };
}

async function hello({ mode, device }) {
  if (!["", "wasm"].includes(mode) || device !== "cpu") {
    throw new Unsupported("the mode is wasm or none, and the device cpu");
  }
  if (mode) {
    require("@tensorflow/tfjs-backend-wasm");
    imports.push('require("@tensorflow/tfjs-backend-wasm");');
    backend = mode;
  }
  await tf.setBackend(backend);
  const layers = Object.fromEntries(Object.keys(CALLS).map((type) => [type, dtypes(type)]));
  return { protocol: 1, version: tf.version_core, layers, dense_layout: "io" };
}

await serve({ hello, run, gradients, parameters, output_shape, script });
