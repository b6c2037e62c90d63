// What the console server can do. noVNC knows it and has no public names for it; without these (another noVNC)
// each answer is no.

/** @typedef {import("./novnc/core/rfb.js").default} RFB */

// The "text" format and the "notify" action of the Extended Clipboard pseudo-encoding, by noVNC's names.
const EXTENDED_FORMAT_TEXT = 1;
const EXTENDED_ACTION_NOTIFY = 1 << 27;

/**
 * Whether the server's clipboard takes UTF-8. noVNC decides by the same two values which message
 * `clipboardPasteFrom` sends.
 *
 * @param {RFB} rfb
 */
export function hasExtendedClipboard(rfb) {
    const formats = /** @type {Record<number, boolean> | undefined} */ (inside(rfb, "_clipboardServerCapabilitiesFormats"));
    const actions = /** @type {Record<number, boolean> | undefined} */ (inside(rfb, "_clipboardServerCapabilitiesActions"));
    return Boolean(formats?.[EXTENDED_FORMAT_TEXT] && actions?.[EXTENDED_ACTION_NOTIFY]);
}

/**
 * Whether the server takes scan codes (QEMU Extended Key Event), so that every key can be pressed. An ESXi host
 * does not: it knows a key by its keysym on a US keyboard.
 *
 * @param {RFB} rfb
 */
export function takesScanCodes(rfb) {
    return inside(rfb, "_qemuExtKeyEventSupported") === true;
}

/**
 * Whether the screen can be given another size (SetDesktopSize).
 *
 * @param {RFB} rfb
 */
export function canResize(rfb) {
    return inside(rfb, "_supportsSetDesktopSize") === true;
}

/**
 * @param {RFB} rfb
 * @param {string} name
 */
function inside(rfb, name) {
    return /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (rfb))[name];
}
