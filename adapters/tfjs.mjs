#!/usr/bin/env node
// TensorFlow.js, as the suite asks it: its packages are those of the folder in which this is run.
// Each layer is an expression in the calls of TensorFlow.js, which is run and shown as it is.

import { createRequire } from "node:module";

import { serve, Unsupported } from "./foreign.mjs";
import { CALLS, described, undilated } from "./tfjs_calls.mjs";
import { source } from "./tfjs_script.mjs";

const require = createRequire(`${process.cwd()}/`);
const tf = require("@tensorflow/tfjs");
const imports = ['const tf = require("@tensorflow/tfjs");'];
let backend = "cpu";

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
function evaluated(expression, names) {
  tf.engine().startScope();
  try {
    const found = new Function("tf", ...Object.keys(names), `return ${expression};`);
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

function forward({ layer }) {
  if (backend === "wasm" && layer.type === "AveragePool" && layer.window.length === 3) {
    throw new Unsupported("WebAssembly has no average over three axes");
  }
  return CALLS[layer.type](layer);
}

function backward({ layer, weights }) {
  if (layer.type === "Conv") {
    undilated(layer, "the gradient of a convolution");
  }
  const held = ["x", ...weights].join(", ");
  return `tf.grads((${held}) => ${forward({ layer })})([${held}], upstream)`;
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

/** A script of the expression that is run. */
function script({ call, layer }) {
  const weights = ["Conv", "Dense"].includes(layer.type) ? ["weight"] : [];
  const names = layer.bias ? [...weights, "bias"] : weights;
  switch (call) {
    case "forward":
      return { script: source(forward({ layer }), ["x", ...names], backend, imports) };
    case "gradients": {
      const expression = backward({ layer, weights: names });
      return { script: source(expression, ["x", ...names, "upstream"], backend, imports) };
    }
  }
  throw new Unsupported(`there is no script of ${call}`);
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
