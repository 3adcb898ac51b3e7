// The layers in the calls of TensorFlow.js, as expressions: of `tf`, and of `tf.layers`.

import { Unsupported } from "./foreign.mjs";

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

export function undilated({ dilation }, where) {
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
export function described(layer) {
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

/** Of each layer type the expression that computes it, of `x`, `weight` and `bias`. */
export const CALLS = {
  MaxPool: (layer) => pool("max", layer),
  AveragePool: (layer) => pool("avg", layer),
  GlobalAveragePool: (layer) => whole("mean", layer),
  GlobalMaxPool: (layer) => whole("max", layer),
  Conv: convolution,
  ReLU: () => "tf.relu(x)",
  Flatten: (layer) => `${described(layer)}.apply(x)`,
  Dense: ({ bias }) => (bias ? "tf.add(tf.matMul(x, weight), bias)" : "tf.matMul(x, weight)"),
};
