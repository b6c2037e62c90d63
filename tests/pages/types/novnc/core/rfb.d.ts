export { default } from "@novnc/novnc/lib/rfb";
