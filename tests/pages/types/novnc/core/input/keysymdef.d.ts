declare const keysyms: {
    /** The X11 keysym of a Unicode code point. */
    lookup(codePoint: number): number;
};
export default keysyms;
