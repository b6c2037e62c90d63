/** X11 keysyms by their names. */
declare const KeyTable: Record<"XK_Return" | "XK_Shift_L" | "XK_Tab", number>;
export default KeyTable;
