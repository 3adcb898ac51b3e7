#!/usr/bin/env node
// TensorFlow.js, as the suite asks it: its packages are those of the folder in which this is run.
// Each layer is an expression in the calls of TensorFlow.js, which is run and shown as it is.

import { createRequire } from "node:module";

import { serve, Unsupported } from "./foreign.mjs";

const PACKAGES = { "": "@tensorflow/tfjs-backend-cpu", wasm: "@tensorflow/tfjs-backend-wasm" };
const require = createRequire(`${process.cwd()}/`);
const tf = require("@tensorflow/tfjs-core");
let mode = "";

const text = JSON.stringify;
const zero = ([before, after]) => before === 0 && after === 0;
const one = (size) => size === 1;

/** The padding in TensorFlow's words: a word, a number, or pairs with those of batch and channels. */
function padding(layer) {
  const pads = layer.padding;
  if (pads === "same") {
    return "same";
  }
  if (typeof pads === "string") {
    throw new Unsupported(`there is no padding ${pads}`);
  }
  if (pads.every(zero)) {
    return layer.ceil_mode ? 0 : "valid";
  }
  if (pads.flat().every((size) => size === pads[0][0])) {
    return pads[0][0];
  }
  if (pads.length === 3) {
    throw new Unsupported("in three dimensions, there is one padding for all sides");
  }
  return [[0, 0], ...pads, [0, 0]];
}

function pool(kind, layer) {
  const { window, stride, dilation } = layer;
  const rank = window.length;
  const rounding = layer.ceil_mode ? ', "ceil"' : "";
  const name = `${kind}Pool`;
  if (rank === 1) {
    throw new Unsupported("there is no pooling of one spatial axis");
  }
  if (layer.count_include_pad && !(typeof layer.padding !== "string" && layer.padding.every(zero))) {
    throw new Unsupported("an average does not count padding");
  }
  const pads = text(padding(layer));
  if (rank === 3) {
    if (!dilation.every(one)) {
      throw new Unsupported("in three dimensions, poolings have no dilation");
    }
    return `tf.${name}3d(x, ${text(window)}, ${text(stride)}, ${pads}${rounding})`;
  }
  if (dilation.every(one)) {
    return `tf.${name}(x, ${text(window)}, ${text(stride)}, ${pads}${rounding})`;
  }
  const rest = `${pads}, ${text(dilation)}, ${text(stride)}${rounding}`;
  return `tf.pool(x, ${text(window)}, ${text(kind)}, ${rest})`;
}

function convolution(layer) {
  const { window, stride, dilation, groups } = layer;
  const rank = window.length;
  const depthwise = groups > 1 && groups === layer.in_channels && rank === 2;
  if (groups !== 1 && !depthwise) {
    throw new Unsupported("groups are all channels, in two dimensions, or one");
  }
  const pads = padding(layer);
  if (rank === 3 && typeof pads !== "string") {
    throw new Unsupported('in three dimensions, padding is "same" or "valid"');
  }
  const plain = (sizes) => text(rank === 1 ? sizes[0] : sizes);
  const rest = `${plain(stride)}, ${text(pads)}, "${"N" + "DHW".slice(3 - rank) + "C"}", ${plain(dilation)}`;
  let call = `tf.conv${rank}d(x, weight, ${rest})`;
  if (depthwise) {
    const shape = text([...window, groups, layer.out_channels / groups]);
    call = `tf.depthwiseConv2d(x, tf.reshape(weight, ${shape}), ${rest})`;
  }
  return layer.bias ? `tf.add(${call}, bias)` : call;
}

const axes = (rank) => text(Array.from({ length: rank }, (_, axis) => axis + 1));

const CALLS = {
  MaxPool: (layer) => pool("max", layer),
  AveragePool: (layer) => pool("avg", layer),
  GlobalAveragePool: ({ rank }) => `tf.mean(x, ${axes(rank)})`,
  GlobalMaxPool: ({ rank }) => `tf.max(x, ${axes(rank)})`,
  Conv: convolution,
  ReLU: () => "tf.relu(x)",
  Flatten: ({ start }) => `tf.reshape(x, [...x.shape.slice(0, ${start}), -1])`,
  Dense: ({ bias }) => (bias ? "tf.add(tf.matMul(x, weight), bias)" : "tf.matMul(x, weight)"),
};
const REDUCTIONS = ["GlobalAveragePool", "GlobalMaxPool"];

/** The dtypes of each layer type: integers are selected and not summed. */
const SELECTIONS = ["MaxPool", "GlobalMaxPool", "ReLU", "Flatten"];
const LAYERS = Object.fromEntries(Object.keys(CALLS).map((type) =>
  [type, SELECTIONS.includes(type) ? ["float32", "int32"] : ["float32"]]));

const tensor = ({ dtype, shape, values }) => tf.tensor(values, shape, dtype);
const array = (y) => ({ dtype: y.dtype, shape: y.shape, values: y.dataSync() });

/** Run within what TensorFlow.js tidies up; a kernel that a backend lacks is unsupported. */
function within(call) {
  tf.engine().startScope();
  try {
    return call();
  } catch (error) {
    if (/^Kernel '\w+' not registered/.test(error.message)) {
      throw new Unsupported(error.message);
    }
    throw error;
  } finally {
    tf.engine().endScope();
  }
}

const compiled = (layer) =>
  new Function("tf", "x", "weight", "bias", `return ${CALLS[layer.type](layer)};`);

function run({ layer, arrays }) {
  const call = compiled(layer);
  return within(() => {
    const tensors = arrays.map(tensor);
    const y = call(tf, tensors.at(-1), ...tensors.slice(0, -1));
    const composed = REDUCTIONS.includes(layer.type) ? "a reduction over the spatial axes" : "";
    return { arrays: [array(y)], composed };
  });
}

function gradients({ layer, arrays }) {
  const call = compiled(layer);
  return within(() => {
    const tensors = arrays.map(tensor);
    const [x, upstream] = tensors.slice(-2);
    const found = tf.grads((...held) => call(tf, ...held))([x, ...tensors.slice(0, -2)], upstream);
    return { arrays: found.map(array) };
  });
}

async function hello({ mode: asked, device }) {
  if (!(asked in PACKAGES) || device !== "cpu") {
    throw new Unsupported(`the modes are wasm and none, and the device is cpu`);
  }
  mode = asked;
  require(PACKAGES[mode]);
  await tf.setBackend(mode || "cpu");
  await tf.ready();
  return { protocol: 1, version: tf.version_core, layers: LAYERS, dense_layout: "io" };
}

await serve({ hello, run, gradients });
